/* Operations: one of NumPy's own inner loops, a call of NumPy's own BLAS, or a few bytes of work without rounding.

   An operation is a row of numbers, in the order of the fields of Op; addresses and registers are among them. */
#pragma once

enum { AXES = 6, OPERANDS = 5 };
enum { LOOP, REDUCE, MATMUL, GEMM, GEMV, TAKE, PUT, LOAD, NUMBER, GUARD, FILL, CALL };
enum { INITIAL, FIRST, AS_IT_IS }; /* what a reduction begins with */
enum { ADD, SUBTRACT, MULTIPLY, DIVIDE, NEGATE, LESS, LESS_EQUAL, GREATER, GREATER_EQUAL, EQUAL, NOT_EQUAL };
enum { FLOAT = 'r', INT = 'z', BOOL = 't', OBJECT = 'o' }; /* types of registers; NumPy's numbers have its letters */
enum { FAILED = -1, DONE, MISFIT, BEYOND, STOPPED }; /* MISFIT: a guard does not hold; BEYOND: Python must compute it */

typedef struct {
    npy_intp kind, operands, axes, size, flag;
    npy_intp slot[OPERANDS], data[OPERANDS];       /* the argument whose memory it is, or -1; an address or an offset */
    npy_intp shape[AXES], strides[AXES][OPERANDS]; /* the first axis is the inner one */
    npy_intp loop, closure;                        /* addresses */
    npy_intp order, left_form, right_form, m, n, k, left_stride, right_stride;
    npy_intp out, left, right, type; /* registers, and the type of the left one or of the number that is loaded */
    npy_intp initial[2];             /* bytes */
} Op;

typedef union {
    int64_t i;
    double f;
    float narrow;
    PyObject *o;
} Register;

/* ------------------------------------------------------------------------------------------- loops of copies */

#define COPY(name, from, to, truth)                                                                           \
    static void name(char **args, npy_intp const *n, npy_intp const *steps, void *Py_UNUSED(data)) {          \
        char *a = args[0], *b = args[1];                                                                      \
        if (steps[0] == sizeof(from) && steps[1] == sizeof(to)) {                                             \
            for (npy_intp i = 0; i < *n; i++) ((to *)b)[i] = (to)(truth((from *)a)[i]);                       \
            return;                                                                                           \
        }                                                                                                     \
        for (npy_intp i = 0; i < *n; i++, a += steps[0], b += steps[1]) *(to *)b = (to)(truth(*(from *)a));   \
    }
#define MASKED(name, type)                                                                               \
    static void name(char **args, npy_intp const *n, npy_intp const *steps, void *Py_UNUSED(data)) {     \
        char *a = args[0], *mask = args[1], *b = args[2];                                                \
        for (npy_intp i = 0; i < *n; i++, a += steps[0], mask += steps[1], b += steps[2])                \
            if (*(npy_bool *)mask) *(type *)b = *(type *)a;                                              \
    }
COPY(copy_1, uint8_t, uint8_t, ) COPY(copy_4, uint32_t, uint32_t, ) COPY(copy_8, uint64_t, uint64_t, )
COPY(bool_float32, npy_bool, float, !!) COPY(bool_float64, npy_bool, double, !!) COPY(int32_float32, int32_t, float, )
COPY(int32_float64, int32_t, double, ) COPY(int64_float32, int64_t, float, ) COPY(int64_float64, int64_t, double, )
COPY(uint64_float64, uint64_t, double, ) COPY(float32_float64, float, double, ) COPY(float64_float32, double, float, )
MASKED(masked_4, uint32_t) MASKED(masked_8, uint64_t)

/* The address of each loop by its name. */
static PyObject *copies(void) {
#define AT(loop) #loop, (Py_ssize_t)loop
    return Py_BuildValue("{snsnsnsnsnsnsnsnsnsnsnsnsnsn}", AT(copy_1), AT(copy_4), AT(copy_8), AT(masked_4), AT(masked_8),
                         AT(bool_float32), AT(bool_float64), AT(int32_float32), AT(int32_float64), AT(int64_float32),
                         AT(int64_float64), AT(uint64_float64), AT(float32_float64), AT(float64_float32));
}

/* ------------------------------------------------------------------------------------------------ operations */

/* Move to the next place outside of the inner axis; 0 after the last one. */
static int next(const Op *op, npy_intp *index, char **at) {
    for (npy_intp axis = 1; axis < op->axes; axis++) {
        for (npy_intp i = 0; i < OPERANDS; i++) at[i] += op->strides[axis][i];
        if (++index[axis] < op->shape[axis]) return 1;
        for (npy_intp i = 0; i < OPERANDS; i++) at[i] -= op->shape[axis] * op->strides[axis][i];
        index[axis] = 0;
    }
    return 0;
}

static void run_loop(const Op *op, char **at) {
    npy_intp index[AXES] = {0};
    do {
        char *args[OPERANDS];
        memcpy(args, at, sizeof args);
        ((PyUFuncGenericFunction)op->loop)(args, op->shape, op->strides[0], (void *)op->closure);
    } while (next(op, index, at));
}

/* The operands are the result, with strides of 0 along the reduced axes, and the array. A number of the result begins
   with the initial value, with the first element along the reduced axes, or with what it is already. */
static void run_reduce(const Op *op, char **at) {
    npy_intp index[AXES] = {0}, along = op->strides[0][0], step = op->strides[0][1], steps[3] = {along, step, along};
    do {
        char *out = at[0], *from = at[1];
        npy_intp n = op->shape[0], fresh = along ? n : 1;
        int is_first = op->flag != AS_IT_IS;
        for (npy_intp axis = 1; axis < op->axes; axis++) is_first &= op->strides[axis][0] || !index[axis];
        for (npy_intp i = 0; is_first && i < fresh; i++)
            memcpy(out + i * along, op->flag == FIRST ? from + i * step : (const char *)op->initial, op->size);
        if (is_first && op->flag == FIRST) from += along ? 0 : step, n -= fresh;
        char *args[3] = {out, from, out};
        if (n) ((PyUFuncGenericFunction)op->loop)(args, &n, steps, (void *)op->closure);
    } while (next(op, index, at));
}

/* The flag says that the integers of BLAS have 64 bits. */
#define PRODUCT(name, whole, real)                                                                                 \
    static void name(const Op *op, char **at) {                                                                    \
        typedef void (*gemm)(int, int, int, whole, whole, whole, real, const void *, whole, const void *, whole,   \
                             real, void *, whole);                                                                 \
        typedef void (*gemv)(int, int, whole, whole, real, const void *, whole, const void *, whole, real, void *, \
                             whole);                                                                               \
        whole m = (whole)op->m, n = (whole)op->n, k = (whole)op->k;                                                \
        whole left = (whole)op->left_stride, right = (whole)op->right_stride;                                      \
        int order = (int)op->order, a = (int)op->left_form, b = (int)op->right_form;                               \
        if (op->kind == GEMM) ((gemm)op->loop)(order, a, b, m, n, k, 1, at[0], left, at[1], right, 0, at[2], n);   \
        else ((gemv)op->loop)(order, b, m, n, 1, at[1], right, at[0], left, 0, at[2], 1);                          \
    }
PRODUCT(product_s64, int64_t, float)
PRODUCT(product_d64, int64_t, double)
PRODUCT(product_s32, int, float)
PRODUCT(product_d32, int, double)

static void run_product(const Op *op, char **at) {
    if (op->size == 4) (op->flag ? product_s64 : product_s32)(op, at);
    else (op->flag ? product_d64 : product_d32)(op, at);
}

/* m indices into n numbers; indices beyond the ends mean the ends, as in NumPy's mode "clip". */
static void run_indexed(const Op *op, char **at) {
    const int64_t *indices = (const int64_t *)at[1];
    for (npy_intp i = 0; i < op->m; i++) {
        npy_intp place = indices[i] < 0 ? 0 : indices[i] >= op->n ? op->n - 1 : indices[i];
        char *inside = at[0] + place * op->size, *other = at[2] + i * op->size;
        memcpy(op->kind == TAKE ? other : inside, op->kind == TAKE ? inside : other, op->size);
    }
}

/* The flag says that the number in memory is a float. */
static void load(const Op *op, char **at, Register *to) {
    if (op->flag) to->f = op->size == 4 ? *(float *)at[0] : *(double *)at[0];
    else to->i = op->size == 1 ? *(npy_bool *)at[0] != 0 : op->size == 4 ? *(int32_t *)at[0] : *(int64_t *)at[0];
}

static void fill(const Op *op, char **at, Register from) {
    if (!op->flag) *(int32_t *)at[0] = (int32_t)from.i;
    else if (op->size == 4) *(float *)at[0] = (float)from.f;
    else *(double *)at[0] = from.f;
}

#define COMPARED(a, b)                                                                                       \
    (op->flag == LESS ? (a) < (b) : op->flag == LESS_EQUAL ? (a) <= (b) : op->flag == GREATER ? (a) > (b)    \
     : op->flag == GREATER_EQUAL ? (a) >= (b) : op->flag == EQUAL ? (a) == (b) : (a) != (b))

/* Python computes what a processor does not, such as integers of more than 64 bits, and divisions by zero. */
static int number(const Op *op, Register *values) {
    Register a = values[op->left], b = values[op->right], *out = values + op->out;
    if (op->type == FLOAT || op->type == NPY_FLOATLTR || op->type == NPY_DOUBLELTR) {
        if (op->flag >= LESS) out->i = COMPARED(a.f, b.f);
        else if (op->flag == DIVIDE && b.f == 0) return BEYOND;
        else out->f = op->flag == ADD ? a.f + b.f : op->flag == SUBTRACT ? a.f - b.f : op->flag == MULTIPLY ? a.f * b.f
                    : op->flag == DIVIDE ? a.f / b.f : -a.f;
        return DONE;
    }
    int is_beyond = op->flag == NEGATE && op->type == NPY_INTLTR && a.i == INT32_MIN;
    if (op->flag >= LESS && op->type == NPY_ULONGLTR) out->i = COMPARED((uint64_t)a.i, (uint64_t)b.i);
    else if (op->flag >= LESS) out->i = COMPARED(a.i, b.i);
    else if (op->flag == ADD) is_beyond |= __builtin_add_overflow(a.i, b.i, &out->i);
    else if (op->flag == SUBTRACT) is_beyond |= __builtin_sub_overflow(a.i, b.i, &out->i);
    else if (op->flag == MULTIPLY) is_beyond |= __builtin_mul_overflow(a.i, b.i, &out->i);
    else is_beyond |= op->flag == DIVIDE || __builtin_sub_overflow(0, a.i, &out->i);
    return is_beyond ? BEYOND : DONE;
}
