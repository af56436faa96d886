// "How do I load the weights?" searches for "load weights": the search compares a whole query with the index.
document.addEventListener("DOMContentLoaded", () => {
  if (typeof Search === "undefined") return; // not on the page of the search
  const parse = Search._parseQuery;
  const asking = /^(how (to|do i|do you|can i)|what (is|are)|why)\b|\b(an?|the|my|your)\b|\?/gi;
  Search._parseQuery = (query) => parse(query.replace(asking, " ").replace(/\s+/g, " ").trim() || query);
});
