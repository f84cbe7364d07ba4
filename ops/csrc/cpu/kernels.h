// The processor's kernels: the same source compiled for several instruction sets.
#pragma once

#include "../problem.h"

namespace segue {

struct CpuKernels {
  // Queries begin...end-1 of the list of all (image, query) pairs.
  void (*forward)(const Problem&, void* output, int64_t begin, int64_t end);
  // Units begin...end-1 of the list of all (image, head, level) triples. A unit owns every gradient it writes, so that
  // any number of threads gives the same bits.
  void (*backward)(const Problem&, const Gradients&, int64_t begin, int64_t end);
};

enum class InstructionSet : int { plain, avx2, avx512 };

CpuKernels plain_kernels();
#if defined(__x86_64__)
CpuKernels avx2_kernels();
CpuKernels avx512_kernels();
#endif

}  // namespace segue
