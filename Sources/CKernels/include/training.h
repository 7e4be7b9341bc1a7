// Kernels that only training needs, in 32-bit floats: what CKernels.h has is not repeated here.
// The compiler makes one version per instruction set and the loader picks one.
#ifndef OPPU_TRAINING_H
#define OPPU_TRAINING_H

#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

// The backward pass of softmax for one row. In: scores and the gradient d of their probabilities.
// Out: scores become the probabilities p = exp(score - log_sum), d becomes p * (d - dot), the
// gradient of the scores, where dot = Σ p d. Entries count ..< total (masked ones) become zero.
void training_softmax_backward(float *scores, float *d, size_t count, size_t total, float log_sum,
                               float dot);

// Cross-entropy of a row of logits: returns -log softmax(row)[target]. Where gradient != 0 the row
// becomes the gradient of `gradient` times that loss.
double training_cross_entropy(float *row, size_t count, size_t target, float gradient);

// Σ x[i]², in double precision.
double training_sum_of_squares(const float *x, size_t count);

// y = x with each element kept with probability 1 - drop and scaled by 1 / (1 - drop), or zero.
// Which ones depends only on `key` and on the element's index, which starts at `first`.
void training_dropout(float *y, const float *x, size_t first, size_t count, float drop,
                      uint64_t key);

// y += x masked and scaled as by training_dropout: its backward pass.
void training_dropout_add(float *y, const float *x, size_t first, size_t count, float drop,
                          uint64_t key);

// Step t of AdamW (Loshchilov & Hutter 2019, algorithm 2) on `count` parameters.
// correction1 = 1 - beta1^t, correction2 = 1 - beta2^t; the gradient is multiplied by `clip` first.
void training_adamw(float *parameter, float *mean, float *variance, const float *gradient,
                    size_t count, float clip, float rate, float beta1, float beta2, float epsilon,
                    float decay, float correction1, float correction2);

#pragma clang assume_nonnull end
#endif
