// The kernels for AVX2, FMA and F16C.
#if defined(__x86_64__)

// Everything of the standard library comes before the instruction set is raised: these functions are shared with code that
// must run on every processor.
#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif

#define SEGUE_VECTOR_BYTES 32
#include "backward.h"
#include "forward.h"
#include "kernels.h"

namespace segue {

CpuKernels avx2_kernels() { return {forward, backward}; }

}  // namespace segue

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif  // __x86_64__
