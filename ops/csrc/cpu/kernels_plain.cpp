// The kernels for any processor: vectors of 16 bytes, which every 64-bit one has (SSE2, NEON).

// Everything of the standard library comes before the instruction set is raised: these functions are shared with code that
// must run on every processor.
#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>

#define SEGUE_VECTOR_BYTES 16
#include "backward.h"
#include "forward.h"
#include "kernels.h"

namespace segue {

CpuKernels plain_kernels() { return {forward, backward}; }

}  // namespace segue
