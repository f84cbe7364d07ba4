// Forward: each query gathers its own samples, so queries are independent.
#pragma once

#include "common.h"

namespace segue {
namespace {

// The samples of one query, for all heads: one array a property, for the vector loop that fills them.
template <class Real>
struct QuerySamples {
  explicit QuerySamples(const Problem& problem)
      : count(problem.heads * problem.levels * problem.points),
        width(count), height(count), columns(count), lines(count), first(count),
        rows(4 * count + problem.levels * problem.points), coefficients(4 * count),
        attention(count) {
    for (int64_t i = 4 * count; i < 4 * count + problem.levels * problem.points; ++i) rows[i] = 0;  // "next" of the last head
    int64_t i = 0;
    for (int64_t head = 0; head < problem.heads; ++head) {
      for (int64_t index = 0; index < problem.levels; ++index) {
        const Level<Real> level = level_of<Real>(problem, index);
        for (int64_t point = 0; point < problem.points; ++point, ++i) {
          width[i] = level.width;
          height[i] = level.height;
          columns[i] = level.columns;
          lines[i] = level.lines;
          first[i] = level.first;
        }
      }
    }
  }

  // Rows of the four neighbours, -1 outside, and attention weight times bilinear coefficient.
  template <class Weight>
  void locate(const Real* locations, const Weight* weights) {
    copy_row(weights, attention.get(), count, count);
    locate(locations);
  }

  void locate(const Real* __restrict locations) {
    const int64_t n = count;
    const Real *__restrict weights = attention.get(), *__restrict wide = width.get(), *__restrict high = height.get();
    const int32_t *__restrict columns_ = columns.get(), *__restrict lines_ = lines.get(), *__restrict first_ = first.get();
    int32_t *__restrict row0 = rows.get(), *__restrict row1 = row0 + n, *__restrict row2 = row1 + n,
            *__restrict row3 = row2 + n;
    Real *__restrict coefficient0 = coefficients.get(), *__restrict coefficient1 = coefficient0 + n,
         *__restrict coefficient2 = coefficient1 + n, *__restrict coefficient3 = coefficient2 + n;
    SEGUE_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) {
      const Footprint<Real> at = footprint<Real>(
          locations[2 * i], locations[2 * i + 1], wide[i], high[i], columns_[i], lines_[i], first_[i], -1);
      row0[i] = at.top_left;
      row1[i] = at.top_right;
      row2[i] = at.bottom_left;
      row3[i] = at.bottom_right;
      const Real below = weights[i] * at.down, above = weights[i] - below;
      const Real above_right = above * at.right, below_right = below * at.right;
      coefficient0[i] = above - above_right;
      coefficient1[i] = above_right;
      coefficient2[i] = below - below_right;
      coefficient3[i] = below_right;
    }
  }

  int64_t count;
  Buffer<Real> width, height;
  Buffer<int32_t> columns, lines, first, rows;
  Buffer<Real> coefficients, attention;
};

// `vectors` vectors of channels of one head. Several accumulators hide the latency of the multiply-adds, and fetching the
// next head's rows ahead hides that of the caches (measured: a quarter to a third less time).
template <int vectors, class T, class Real>
SEGUE_INLINE void gather(
    const QuerySamples<Real>& samples, int64_t begin, int64_t end, const T* base, int64_t stride, const T* zeros,
    int64_t next_head, T* output) {
  constexpr int lanes = Lanes<Real>::count, chains = vectors > 2 ? 2 : 4;
  Vector<Real> sum[chains][vectors] = {};
  for (int64_t i = begin; i < end; ++i) {
#pragma GCC unroll 4
    for (int corner = 0; corner < 4; ++corner) {
      const int64_t row = samples.rows[corner * samples.count + i];
      const T* from = row < 0 ? zeros : base + row * stride;
      const Real coefficient = samples.coefficients[corner * samples.count + i];
      const int64_t soon = next_head + samples.rows[corner * samples.count + i + (end - begin)] * stride;
      const uintptr_t address = reinterpret_cast<uintptr_t>(base) + static_cast<uintptr_t>(soon) * sizeof(T);
#pragma GCC unroll 4
      for (uintptr_t byte = 0; byte < vectors * lanes * sizeof(T); byte += 64)
        __builtin_prefetch(reinterpret_cast<const void*>(address + byte));
#pragma GCC unroll 4
      for (int k = 0; k < vectors; ++k) sum[corner % chains][k] += coefficient * load(from + k * lanes);
    }
  }
#pragma GCC unroll 4
  for (int k = 0; k < vectors; ++k) {
    Vector<Real> total = sum[0][k] + sum[1][k];
    if constexpr (chains == 4) total += sum[2][k] + sum[3][k];
    store(output + k * lanes, total);
  }
}

// The last channels, fewer than a vector has lanes.
template <class T, class Real>
void gather_part(
    const QuerySamples<Real>& samples, int64_t begin, int64_t end, const T* base, int64_t stride, const T* zeros, T* output,
    int channels) {
  Vector<Real> sum = {};
  for (int64_t i = begin; i < end; ++i) {
    for (int corner = 0; corner < 4; ++corner) {
      const int64_t row = samples.rows[corner * samples.count + i];
      const T* from = row < 0 ? zeros : base + row * stride;  // not skipped: 0 · NaN is NaN
      sum += samples.coefficients[corner * samples.count + i] * load_part<Real>(from, channels);
    }
  }
  store_part<Real>(output, sum, channels);
}

template <class T, class Weight, class Real>
void forward_queries(const Problem& problem, T* output, int64_t begin, int64_t end) {
  constexpr int lanes = Lanes<Real>::count;
  const int64_t channels = problem.channels, stride = problem.heads * channels;
  const int64_t samples_per_head = problem.levels * problem.points;
  QuerySamples<Real> samples(problem);
  Buffer<T> zeros(channels);
  __builtin_memset(zeros.get(), 0, static_cast<size_t>(channels) * sizeof(T));
  for (int64_t query = begin; query < end; ++query) {
    samples.locate(static_cast<const Real*>(problem.locations) + 2 * query * samples.count,
                   static_cast<const Weight*>(problem.weights) + query * samples.count);
    const T* image = static_cast<const T*>(problem.value) + query / problem.queries * problem.positions * stride;
    for (int64_t head = 0; head < problem.heads; ++head) {
      const int64_t from = head * samples_per_head, to = from + samples_per_head;
      const T* base = image + head * channels;
      T* out = output + query * stride + head * channels;
      int64_t c = 0;
      for (; c + 4 * lanes <= channels; c += 4 * lanes)
        gather<4>(samples, from, to, base + c, stride, zeros.get(), channels, out + c);
      if (c + 2 * lanes <= channels) {
        gather<2>(samples, from, to, base + c, stride, zeros.get(), channels, out + c);
        c += 2 * lanes;
      }
      if (c + lanes <= channels) {
        gather<1>(samples, from, to, base + c, stride, zeros.get(), channels, out + c);
        c += lanes;
      }
      if (c < channels)
        gather_part(samples, from, to, base + c, stride, zeros.get(), out + c, static_cast<int>(channels - c));
    }
  }
}

void forward(const Problem& problem, void* output, int64_t begin, int64_t end) {
  with_types(problem, [&](auto value, auto weight, auto real) {
    forward_queries<decltype(value), decltype(weight), decltype(real)>(
        problem, static_cast<decltype(value)*>(output), begin, end);
  });
}

}  // namespace
}  // namespace segue
