// The kernels for AVX-512 F, BW, DQ and VL.
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
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#endif

#define SEGUE_VECTOR_BYTES 64
#include "backward.h"
#include "forward.h"
#include "kernels.h"

namespace segue {

CpuKernels avx512_kernels() { return {forward, backward}; }

}  // namespace segue

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif  // __x86_64__
