"""The foundation of every other module: errors, arrays, checks, records, names, trees and files."""
