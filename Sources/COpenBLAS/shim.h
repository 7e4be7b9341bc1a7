// The C signatures of the OpenBLAS functions that are looked up by name at run time. There is no
// link directive: the library is opened with dlopen, so that its kernels can be chosen in-process.
#ifndef OPPU_COPENBLAS_SHIM_H
#define OPPU_COPENBLAS_SHIM_H

typedef void (*openblas_sgemm_function)(
    int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
    const float *_Nullable a, int lda, const float *_Nullable b, int ldb, float beta,
    float *_Nullable c, int ldc);
typedef char *_Nullable (*openblas_get_corename_function)(void);
typedef void (*openblas_set_num_threads_function)(int count);

#endif
