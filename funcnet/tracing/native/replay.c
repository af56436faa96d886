/* An interpreter of programs (program.py writes them). It runs the operations of operations.h on fixed memory; what has
   no form there is a Python function that it calls. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#define NPY_NO_DEPRECATED_API NPY_1_22_API_VERSION
#include <numpy/arrayobject.h>
#include <numpy/ufuncobject.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include "operations.h"

_Static_assert(sizeof(npy_intp) == 8 && sizeof(void *) == 8, "addresses and sizes are numbers of 64 bits");
#if NPY_BYTE_ORDER != NPY_LITTLE_ENDIAN
#error "a register holds each of NumPy's numbers in its first bytes"
#endif

enum { ARGUMENTS = 32, LOOKS = 20 }; /* LOOKS: how often in a second a fold looks for signals */

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *parts; /* what the program was made from: it keeps the memory of the tables and arrays */
    PyObject *likes, *functions, *rows; /* likes: an array like each argument, or None */
    const Op *ops;
    const npy_intp (*given)[2], (*made)[2]; /* the type (0 for none) and the register of each argument and result */
    const char *kinds; /* the type of each register */
    Register *values;
    Py_ssize_t count, arguments, results, registers;
    PyThreadState *saved;
    int is_long, is_busy;
} Program;

/* -------------------------------------------------------------------------------------------- Python's numbers */

static PyObject *boxed(npy_intp type, Register value) {
    if (type == FLOAT) return PyFloat_FromDouble(value.f);
    if (type == INT) return PyLong_FromLongLong(value.i);
    if (type == BOOL) return PyBool_FromLong(value.i != 0);
    if (type == OBJECT) return Py_NewRef(value.o ? value.o : Py_None);
    if (type == NPY_FLOATLTR) value.narrow = (float)value.f;
    PyArray_Descr *dtype = PyArray_DescrFromType((int)type);
    PyObject *made = dtype ? PyArray_Scalar(&value, dtype, NULL) : NULL;
    Py_XDECREF(dtype);
    return made;
}

/* A tuple of the numbers in registers. */
static PyObject *filled(const npy_intp (*places)[2], Py_ssize_t count, const Register *values) {
    PyObject *made = PyTuple_New(count);
    for (Py_ssize_t i = 0; made && i < count; i++) {
        PyObject *each = boxed(places[i][0], values[places[i][1]]);
        if (each) PyTuple_SET_ITEM(made, i, each);
        else Py_CLEAR(made);
    }
    return made;
}

static int unboxed(npy_intp type, PyObject *given, Register *to) {
    int is_beyond = 0;
    if (type == OBJECT) {
        Py_INCREF(given);
        Py_XSETREF(to->o, given);
        return DONE;
    }
    if (type == FLOAT && PyFloat_CheckExact(given)) return to->f = PyFloat_AS_DOUBLE(given), DONE;
    if (type == BOOL && PyBool_Check(given)) return to->i = given == Py_True, DONE;
    if (type != INT || !PyLong_CheckExact(given)) return BEYOND;
    to->i = PyLong_AsLongLongAndOverflow(given, &is_beyond);
    return is_beyond ? BEYOND : DONE;
}

/* `rows` has the types and registers of what the function is given and of what it returns; None does not fit. */
static int call(Program *self, const Op *op) {
    const npy_intp(*rows)[2] = (const npy_intp(*)[2])PyBytes_AS_STRING(PyTuple_GET_ITEM(self->rows, op->flag));
    PyObject *stack[ARGUMENTS], *made = NULL;
    int code = FAILED, is_free = self->saved != NULL, count = 0;
    if (is_free) PyEval_RestoreThread(self->saved), self->saved = NULL;
    while (count < op->m && (stack[count] = boxed(rows[count][0], self->values[rows[count][1]]))) count++;
    if (count == op->m) made = PyObject_Vectorcall(PyTuple_GET_ITEM(self->functions, op->flag), stack, count, NULL);
    while (count) Py_DECREF(stack[--count]);
    if (made == Py_None) code = MISFIT;
    else if (made && (!PyTuple_CheckExact(made) || PyTuple_GET_SIZE(made) != op->n))
        PyErr_SetString(PyExc_TypeError, "the lines of a program must return a tuple of their numbers");
    else if (made) code = DONE;
    for (npy_intp i = 0; code == DONE && i < op->n; i++)
        code = unboxed(rows[op->m + i][0], PyTuple_GET_ITEM(made, i), self->values + rows[op->m + i][1]);
    Py_XDECREF(made);
    if (is_free) self->saved = PyEval_SaveThread();
    return code;
}

/* ---------------------------------------------------------------------------------------------------- a step */

static int run(Program *self, char *const *given) {
    for (const Op *op = self->ops; op < self->ops + self->count; op++) {
        char *at[OPERANDS];
        int code = DONE;
        for (npy_intp i = 0; i < OPERANDS; i++)
            at[i] = op->slot[i] < 0 ? (char *)op->data[i] : given[op->slot[i]] + op->data[i];
        switch (op->kind) {
            case LOOP: run_loop(op, at); break;
            case REDUCE: run_reduce(op, at); break;
            case MATMUL: ((PyUFuncGenericFunction)op->loop)(at, op->shape, op->strides[0], (void *)op->closure); break;
            case GEMM: case GEMV: run_product(op, at); break;
            case TAKE: case PUT: run_indexed(op, at); break;
            case LOAD: load(op, at, self->values + op->out); break;
            case NUMBER: code = number(op, self->values); break;
            case GUARD: code = (self->values[op->left].i != 0) == op->flag ? DONE : MISFIT; break;
            case FILL: fill(op, at, self->values[op->left]); break;
            default: code = call(self, op);
        }
        if (code != DONE) return code;
    }
    return DONE;
}

static int is_like(PyObject *like, PyObject *given) {
    PyArrayObject *a = (PyArrayObject *)like, *b = (PyArrayObject *)given;
    if (!PyArray_CheckExact(given) || PyArray_NDIM(a) != PyArray_NDIM(b) || !PyArray_ISALIGNED(b)) return 0;
    return PyArray_CompareLists(PyArray_DIMS(a), PyArray_DIMS(b), PyArray_NDIM(a)) &&
           PyArray_CompareLists(PyArray_STRIDES(a), PyArray_STRIDES(b), PyArray_NDIM(a)) &&
           (PyArray_DESCR(a) == PyArray_DESCR(b) || PyArray_EquivTypes(PyArray_DESCR(a), PyArray_DESCR(b)));
}

/* Take over argument i: a number goes into its register, an array must have the layout that the program is made for. */
static int take(Program *self, Py_ssize_t i, PyObject *each, char **given) {
    PyObject *like = PyTuple_GET_ITEM(self->likes, i);
    if (like != Py_None && !is_like(like, each)) return BEYOND;
    given[i] = like == Py_None ? NULL : PyArray_BYTES((PyArrayObject *)each);
    return self->given[i][0] ? unboxed(self->given[i][0], each, self->values + self->given[i][1]) : DONE;
}

/* Drop the objects in registers: they may hold the memory of a whole data set. */
static void leave(Program *self) {
    for (Py_ssize_t i = 0; i < self->registers; i++)
        if (self->kinds[i] == OBJECT) Py_CLEAR(self->values[i].o);
    self->is_busy = 0;
}

/* program(*arguments): the results of a step; None if a guard does not hold; NotImplemented if Python must run it. */
static PyObject *program_call(PyObject *object, PyObject *const *args, size_t flags, PyObject *names) {
    Program *self = (Program *)object;
    PyObject *made = NULL;
    char *given[ARGUMENTS];
    int code = DONE;
    if (PyVectorcall_NARGS(flags) != self->arguments || names || self->is_busy)
        return PyErr_Format(PyExc_TypeError, "the program takes %zd arguments, one call at a time", self->arguments);
    self->is_busy = 1;
    for (Py_ssize_t i = 0; code == DONE && i < self->arguments; i++) code = take(self, i, args[i], given);
    if (code == DONE) {
        self->saved = self->is_long ? PyEval_SaveThread() : NULL;
        code = run(self, given);
        if (self->saved) PyEval_RestoreThread(self->saved), self->saved = NULL;
    }
    if (code == MISFIT || code == BEYOND) made = Py_NewRef(code == MISFIT ? Py_None : Py_NotImplemented);
    if (code == DONE) made = filled(self->made, self->results, self->values);
    leave(self);
    return made;
}

/* ------------------------------------------------------------------------------------------------- many steps */

typedef struct {
    Py_ssize_t count, start, limit, steps;
    npy_intp rows, bytes[ARGUMENTS]; /* of a batch, and of a row of each source */
    const char *from[ARGUMENTS];
    char *buffers[ARGUMENTS];
    const int64_t *order;
} Epoch;

/* Copy the rows of the batch that begins at a place, or point to them; a row beyond the limit does not fit. */
static int gather(const Epoch *epoch, npy_intp place, int may_point, char **given) {
    for (Py_ssize_t i = 0; i < epoch->count; i++) {
        npy_intp bytes = epoch->bytes[i];
        given[i] = may_point && !epoch->order ? (char *)epoch->from[i] + place * bytes : epoch->buffers[i];
        for (npy_intp row = 0; given[i] == epoch->buffers[i] && row < epoch->rows; row++) {
            int64_t chosen = epoch->order ? epoch->order[place + row] : place + row;
            if (chosen < 0 || chosen >= epoch->limit) return BEYOND;
            memcpy(given[i] + row * bytes, epoch->from[i] + chosen * bytes, bytes);
        }
    }
    return DONE;
}

/* Compute the steps until one does not fit; look for signals from time to time. */
static int run_steps(Program *self, const Epoch *epoch, double (*log)[2], Py_ssize_t *done) {
    char *given[ARGUMENTS];
    Register next[2 + ARGUMENTS];
    struct timespec now;
    for (long last = -1; *done < epoch->steps; ++*done) {
        int code = gather(epoch, epoch->start + *done * epoch->rows, !PyTuple_GET_SIZE(self->functions), given);
        if (code != DONE || (code = run(self, given)) != DONE) return code;
        for (int i = 0; i < 2; i++) log[*done][i] = self->values[self->made[i][1]].f;
        for (Py_ssize_t i = 2; i < self->results; i++) next[i] = self->values[self->made[i][1]];
        for (Py_ssize_t i = 2; i < self->results; i++) self->values[self->given[epoch->count + i - 2][1]] = next[i];
        timespec_get(&now, TIME_UTC);
        if (now.tv_sec * LOOKS + now.tv_nsec / (1000000000 / LOOKS) == last) continue;
        last = now.tv_sec * LOOKS + now.tv_nsec / (1000000000 / LOOKS);
        PyEval_RestoreThread(self->saved);
        code = PyErr_CheckSignals();
        self->saved = PyEval_SaveThread();
        if (code) return STOPPED;
    }
    return DONE;
}

/* fold(buffers, sources, limit, order, start, log, numbers): steps on batches, which are gathered from rows of sources,
   until one does not fit. Step i writes its first two results to log[i]; the others are the numbers of the next step.
   `order` has the rows of all batches, or is None. Returns how many steps were computed, and the numbers after them.
   The caller checks that all arrays are in C order, that the sources have `limit` rows of the buffers' layout, and
   that `order` (int64) or the sources have the rows of each line of `log` (float64, two columns). */
static PyObject *program_fold(PyObject *object, PyObject *args) {
    Program *self = (Program *)object;
    PyObject *buffers, *sources, *order, *numbers, *made = NULL;
    PyArrayObject *log;
    Epoch epoch = {0};
    Py_ssize_t done = 0;
    int code = DONE;
    if (!PyArg_ParseTuple(args, "O!O!nOnO!O!", &PyTuple_Type, &buffers, &PyTuple_Type, &sources, &epoch.limit, &order,
                          &epoch.start, &PyArray_Type, &log, &PyTuple_Type, &numbers)) return NULL;
    Py_ssize_t count = epoch.count = PyTuple_GET_SIZE(buffers), fed = PyTuple_GET_SIZE(numbers);
    if (count != PyTuple_GET_SIZE(sources) || count + fed != self->arguments || self->is_busy)
        return PyErr_Format(PyExc_TypeError, "the program does not fold such arguments");
    self->is_busy = 1;
    for (Py_ssize_t i = 0; code == DONE && i < count + fed; i++)
        code = take(self, i, PyTuple_GET_ITEM(i < count ? buffers : numbers, i < count ? i : i - count), epoch.buffers);
    for (Py_ssize_t i = 0; code == DONE && i < count; i++) {
        PyArrayObject *buffer = (PyArrayObject *)PyTuple_GET_ITEM(buffers, i);
        epoch.rows = PyArray_DIM(buffer, 0), epoch.bytes[i] = PyArray_NBYTES(buffer) / epoch.rows;
        epoch.from[i] = PyArray_BYTES((PyArrayObject *)PyTuple_GET_ITEM(sources, i));
    }
    epoch.steps = PyArray_DIM(log, 0);
    epoch.order = order == Py_None ? NULL : (const int64_t *)PyArray_BYTES((PyArrayObject *)order);
    if (code == DONE) {
        self->saved = PyEval_SaveThread();
        code = run_steps(self, &epoch, (double(*)[2])PyArray_BYTES(log), &done);
        PyEval_RestoreThread(self->saved), self->saved = NULL;
        if (code == FAILED && PyErr_ExceptionMatches(PyExc_Exception)) PyErr_Clear(), code = MISFIT;
        if (code != FAILED && code != STOPPED) made = filled(self->given + count, fed, self->values);
    } else made = Py_NewRef(numbers);
    leave(self);
    return made ? Py_BuildValue("nN", done, made) : NULL;
}

/* --------------------------------------------------------------------------------------------------- building */

/* loop(ufunc, types): the addresses of an inner loop for these numbers of dtypes, and of its data; None without one. */
static PyObject *find_loop(PyObject *Py_UNUSED(module), PyObject *args) {
    PyUFuncObject *ufunc;
    const char *types;
    Py_ssize_t count;
    if (!PyArg_ParseTuple(args, "O!y#", &PyUFunc_Type, &ufunc, &types, &count)) return NULL;
    for (int k = 0; k < ufunc->ntypes && count == ufunc->nargs; k++)
        if (!memcmp(ufunc->types + k * count, types, count) && ufunc->functions[k])
            return Py_BuildValue("nn", (npy_intp)ufunc->functions[k], (npy_intp)(ufunc->data ? ufunc->data[k] : NULL));
    Py_RETURN_NONE;
}

/* Program(ops, given, made, values, kinds, likes, functions, rows, is_long, kept): the tables, and the first value and
   the type of each register, are bytes; `is_long` says to release the GIL; the memory of `kept` is used. The caller
   checks that the tables fit together. */
static PyObject *program_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(names)) {
    Program *self = (Program *)type->tp_alloc(type, 0);
    const char *values;
    Py_ssize_t size;
    PyObject *kept;
    if (!self || !PyArg_ParseTuple(args, "y#y#y#y#y#O!O!O!pO", &self->ops, &self->count, &self->given, &self->arguments,
                                   &self->made, &self->results, &values, &size, &self->kinds, &self->registers,
                                   &PyTuple_Type, &self->likes, &PyTuple_Type, &self->functions, &PyTuple_Type,
                                   &self->rows, &self->is_long, &kept)) return Py_XDECREF(self), NULL;
    self->count /= sizeof(Op), self->arguments /= sizeof *self->given, self->results /= sizeof *self->made;
    self->vectorcall = program_call, self->parts = Py_NewRef(args), self->values = PyMem_Malloc(size + 1);
    if (!self->values) return Py_DECREF(self), PyErr_NoMemory();
    memcpy(self->values, values, size);
    return (PyObject *)self;
}

static void program_free(PyObject *object) {
    Program *self = (Program *)object;
    if (self->values) leave(self);
    PyMem_Free(self->values);
    Py_XDECREF(self->parts);
    Py_TYPE(object)->tp_free(object);
}

static PyMethodDef methods[] = {{"fold", program_fold, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};
static PyMethodDef functions[] = {{"loop", find_loop, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};
static PyTypeObject ProgramType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "funcnet.tracing.native.replay.Program",
    .tp_basicsize = sizeof(Program),
    .tp_dealloc = program_free,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(Program, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_methods = methods,
    .tp_new = program_new,
};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "replay", NULL, -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_replay(void) {
    if (_import_array() < 0 || _import_umath() < 0 || PyType_Ready(&ProgramType) < 0) return NULL;
    PyObject *made = PyModule_Create(&module), *found = copies();
    if (made && (!found || PyModule_AddObjectRef(made, "Program", (PyObject *)&ProgramType) < 0 ||
                 PyModule_AddObjectRef(made, "copies", found) < 0 ||
                 PyModule_AddStringConstant(made, "built", BUILT) < 0)) Py_CLEAR(made);
    Py_XDECREF(found);
    return made;
}
