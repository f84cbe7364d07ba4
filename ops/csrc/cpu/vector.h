// Vectors of the instruction set's own width, and loads that widen half precision.
//
// SEGUE_VECTOR_BYTES is set by the including file. Compilers turn operators on these types into single instructions;
// loops over scalars they would keep in memory.
#pragma once

#include <cstdint>
#include <utility>

// The next loop's iterations touch different memory; compilers cannot see it through this many pointers.
#if defined(__clang__)
#define SEGUE_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define SEGUE_INDEPENDENT _Pragma("GCC ivdep")
#endif

namespace segue {
namespace {

struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

template <class Real>
struct Lanes {
  static constexpr int count = SEGUE_VECTOR_BYTES / static_cast<int>(sizeof(Real));
  typedef Real Vector __attribute__((vector_size(SEGUE_VECTOR_BYTES)));
  typedef Real Unaligned __attribute__((vector_size(SEGUE_VECTOR_BYTES), aligned(1), may_alias));
};
template <class Real>
using Vector = typename Lanes<Real>::Vector;

template <class To, class From>
SEGUE_INLINE To same_bits(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "a bit pattern keeps its size");
  To to;
  __builtin_memcpy(&to, &from, sizeof(To));
  return to;
}

// One number -----------------------------------------------------------------------------------------------------------

SEGUE_INLINE float widen(float x) { return x; }
SEGUE_INLINE double widen(double x) { return x; }
SEGUE_INLINE float widen(BFloat16 x) { return same_bits<float>(static_cast<uint32_t>(x.bits) << 16); }
SEGUE_INLINE float widen(Float16 x) {
#if SEGUE_VECTOR_BYTES >= 32
  return _cvtsh_ss(x.bits);
#else
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
  const uint32_t magnitude = x.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return same_bits<float>(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  // Placed in a float's fields the exponent is 112 too small; multiplying by 2^112 also normalises small numbers.
  return same_bits<float>(sign | same_bits<uint32_t>(same_bits<float>(magnitude << 13) * 0x1p112f));
#endif
}

template <class T>
SEGUE_INLINE T narrow(float x);
template <class T>
SEGUE_INLINE T narrow(double x);
template <>
SEGUE_INLINE float narrow<float>(float x) { return x; }
template <>
SEGUE_INLINE double narrow<double>(double x) { return x; }
template <>
SEGUE_INLINE BFloat16 narrow<BFloat16>(float x) {
  const uint32_t bits = same_bits<uint32_t>(x);
  if (x != x) return {static_cast<uint16_t>(bits >> 16 | 0x40u)};
  return {static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};  // to nearest, ties to even
}
template <>
SEGUE_INLINE Float16 narrow<Float16>(float x) {
#if SEGUE_VECTOR_BYTES >= 32
  return {static_cast<uint16_t>(_cvtss_sh(x, 0))};
#else
  const uint32_t bits = same_bits<uint32_t>(x);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<uint16_t>(sign | 0x7e00u)};
  if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};  // rounds to infinity
  if (magnitude < 0x38800000u)  // smaller than the smallest normal number: let the addition round to its spacing
    return {static_cast<uint16_t>(
        sign | (same_bits<uint32_t>(same_bits<float>(magnitude) + 0.5f) - same_bits<uint32_t>(0.5f)))};
  return {static_cast<uint16_t>(sign | (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13)};
#endif
}

// One vector -----------------------------------------------------------------------------------------------------------

template <class Real>
SEGUE_INLINE Vector<Real> load(const Real* from) {
  return *reinterpret_cast<const typename Lanes<Real>::Unaligned*>(from);
}
template <class Half>
SEGUE_INLINE Vector<float> load_half(const Half* from) {
  Vector<float> result;
  for (int i = 0; i < Lanes<float>::count; ++i) result[i] = widen(from[i]);
  return result;
}
SEGUE_INLINE Vector<float> load(const BFloat16* from) {
#if SEGUE_VECTOR_BYTES == 64
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return same_bits<Vector<float>>(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
#elif SEGUE_VECTOR_BYTES == 32
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return same_bits<Vector<float>>(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
#else
  return load_half(from);
#endif
}
SEGUE_INLINE Vector<float> load(const Float16* from) {
#if SEGUE_VECTOR_BYTES == 64
  return same_bits<Vector<float>>(_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
#elif SEGUE_VECTOR_BYTES == 32
  return same_bits<Vector<float>>(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
#else
  return load_half(from);
#endif
}

template <class Real>
SEGUE_INLINE void store(Real* to, Vector<Real> vector) {
  *reinterpret_cast<typename Lanes<Real>::Unaligned*>(to) = vector;
}
template <class Half>
SEGUE_INLINE void store_half(Half* to, Vector<float> vector) {
  for (int i = 0; i < Lanes<float>::count; ++i) to[i] = narrow<Half>(vector[i]);
}
SEGUE_INLINE void store(BFloat16* to, Vector<float> vector) { store_half(to, vector); }
SEGUE_INLINE void store(Float16* to, Vector<float> vector) {
#if SEGUE_VECTOR_BYTES == 64
  const __m256i bits = _mm512_cvtps_ph(same_bits<__m512>(vector), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), bits);
#elif SEGUE_VECTOR_BYTES == 32
  const __m128i bits = _mm256_cvtps_ph(same_bits<__m256>(vector), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bits);
#else
  store_half(to, vector);
#endif
}

// The first `count` elements only; the other lanes are zero.
template <class Real, class T>
SEGUE_INLINE Vector<Real> load_part(const T* from, int count) {
  Vector<Real> result = {};
  for (int i = 0; i < count; ++i) result[i] = widen(from[i]);
  return result;
}
template <class Real, class T>
SEGUE_INLINE void store_part(T* to, Vector<Real> vector, int count) {
  for (int i = 0; i < count; ++i) to[i] = narrow<T>(vector[i]);
}

// Many sums at once ----------------------------------------------------------------------------------------------------

template <class Real>
struct Shuffles {
  static constexpr int count = Lanes<Real>::count;
  // Lanes of the pair (a, b) whose number has the bit `step` come from b, the others from a ...
  static constexpr int kept(int lane, int step) { return lane & step ? count + lane : lane; }
  // ... and so do their partners.
  static constexpr int partner(int lane, int step) { return lane & step ? count + (lane ^ step) : lane ^ step; }

  template <int step, int... lane>
  static SEGUE_INLINE Vector<Real> add(Vector<Real> a, Vector<Real> b, std::integer_sequence<int, lane...>) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, kept(lane, step)...) + __builtin_shufflevector(a, b, partner(lane, step)...);
#else
    using Index = std::conditional_t<sizeof(Real) == 4, int32_t, int64_t>;
    typedef Index Mask __attribute__((vector_size(SEGUE_VECTOR_BYTES)));
    return __builtin_shuffle(a, b, Mask{Index(kept(lane, step))...}) +
        __builtin_shuffle(a, b, Mask{Index(partner(lane, step))...});
#endif
  }
};

// Lane i of the result is the sum of vector i: as many vectors as lanes, added pairwise in a tree.
template <class Real, int step = 1>
SEGUE_INLINE Vector<Real> sums(const Vector<Real>* vectors) {
  constexpr int count = Lanes<Real>::count;
  using Lane = std::make_integer_sequence<int, count>;
  if constexpr (2 * step == count) {
    return Shuffles<Real>::template add<step>(vectors[0], vectors[1], Lane{});
  } else {
    Vector<Real> half[count / step / 2];
#pragma GCC unroll 16
    for (int i = 0; i < count / step / 2; ++i)
      half[i] = Shuffles<Real>::template add<step>(vectors[2 * i], vectors[2 * i + 1], Lane{});
    return sums<Real, 2 * step>(half);
  }
}

}  // namespace
}  // namespace segue
