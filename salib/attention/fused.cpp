// Scale-ALiBi attention, Eqs. (1)-(2), on a CPU: a block of queries against a block of keys at a
// time, the ground distance between them computed once for a group of heads. Nothing of the size of
// queries x keys is ever stored. Products are PyTorch's own (oneDNN's brgemm, which uses AMX where
// there is any), accumulated in float32; logits, softmax and distances are float32. Rows are worked
// through in vectors of 16 (AVX-512), their ends through a mask.
//
// For bfloat16 brgemm takes its right operand in pairs of rows ("packed": element (2i + j, n) at
// [i][n][j]), so what is summed over must be even: blocks of odd length get a row of zeros.

#include <ATen/native/CPUBlas.h>
#include <immintrin.h>
#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <exception>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using Half = at::BFloat16;
using at::native::cpublas::brgemm;
using at::native::cpublas::brgemm_release;

constexpr int64_t QUERIES = 128, GROUP = 8;
constexpr float LOG2E = 1.4426950408889634f;

inline int64_t even(int64_t n) { return n + n % 2; }
inline int64_t blocks(int64_t n, int64_t size) { return (n + size - 1) / size; }

using Floats = __m512;
constexpr int64_t LANES = 16;

// The lanes in use when `left` elements of a row are left.
inline __mmask16 lanes(int64_t left) {
  return left >= LANES ? 0xffff : static_cast<__mmask16>((1u << left) - 1);
}

// Where 16 elements lie that are `step` apart.
inline __m512i apart(int64_t step) {
  const __m512i ramp = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  return _mm512_mullo_epi32(ramp, _mm512_set1_epi32(static_cast<int>(step)));
}

inline void store(float* to, __mmask16 mask, Floats x) { _mm512_mask_storeu_ps(to, mask, x); }

inline Floats floats(__mmask16 mask, const float* from) {
  return _mm512_maskz_loadu_ps(mask, from);
}

inline Floats floats(__mmask16 mask, const Half* from) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, from));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

#ifdef __AVX512BF16__
// Rounded to nearest even; NaN stays NaN.
inline void store(Half* to, __mmask16 mask, Floats x) {
  _mm256_mask_storeu_epi16(to, mask, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)));
}
#endif

// 2^x for x <= 0; NaN stays NaN. Of what is rounded to bfloat16 within 5e-5, else within 2e-7.
template <typename T>
inline Floats exp2_of(Floats x) {
  constexpr float SERIES[] = {1,  // ln(2)^n / n!
                              0.6931471806f, 0.2402265070f, 0.0555041087f,
                              0.0096181291f, 0.0013333558f, 0.0001540353f};
  constexpr int DEGREE = sizeof(T) == 2 ? 4 : 6;
  x = _mm512_max_ps(_mm512_set1_ps(-150), x);  // 2^-150 is 0; of a NaN, max returns the second
  const Floats whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT);
  const Floats t = _mm512_sub_ps(x, whole);
  Floats series = _mm512_set1_ps(SERIES[DEGREE]);
  for (int n = DEGREE - 1; n >= 0; n--)
    series = _mm512_fmadd_ps(series, t, _mm512_set1_ps(SERIES[n]));
  return _mm512_scalef_ps(series, whole);
}

// A row of logits in powers of 2: scaled, less slope times distance; in place, and its maximum.
inline float logits_of(float* line, const float* far, int64_t cols, float scale, float slope,
                       float highest) {
  const Floats by = _mm512_set1_ps(scale), steep = _mm512_set1_ps(slope);
  Floats top = _mm512_set1_ps(highest);
  for (int64_t c = 0; c < cols; c += LANES) {
    const __mmask16 mask = lanes(cols - c);
    const Floats away = _mm512_mul_ps(steep, floats(mask, far + c));
    const Floats x = _mm512_fmsub_ps(floats(mask, line + c), by, away);
    _mm512_mask_storeu_ps(line + c, mask, x);
    top = _mm512_mask_max_ps(top, mask, x, top);  // a NaN is not the maximum
  }
  return _mm512_reduce_max_ps(top);
}

// A row of 2^(logit - top), rounded, and its sum.
template <typename T>
inline float shares_of(const float* line, int64_t cols, float top, T* share) {
  const Floats highest = _mm512_set1_ps(top);
  Floats sum = _mm512_setzero_ps();
  for (int64_t c = 0; c < cols; c += LANES) {
    const __mmask16 mask = lanes(cols - c);
    const Floats power = exp2_of<T>(_mm512_sub_ps(floats(mask, line + c), highest));
    sum = _mm512_mask_add_ps(sum, mask, sum, power);
    store(share + c, mask, power);
  }
  return _mm512_reduce_add_ps(sum);
}

// A row of the backward pass: shares again, and the gradient of the logits.
template <typename T>
inline void changes_of(const float* line, const float* far, const float* slid, const float* total,
                       const float* dot, int64_t cols, float scale, float slope, T* share,
                       T* turned) {
  const Floats by = _mm512_set1_ps(scale), steep = _mm512_set1_ps(slope);
  for (int64_t c = 0; c < cols; c += LANES) {
    const __mmask16 mask = lanes(cols - c);
    const Floats away = _mm512_fmadd_ps(steep, floats(mask, far + c),
                                        floats(mask, total + c));
    const Floats x = _mm512_fmsub_ps(floats(mask, line + c), by, away);
    const Floats power = exp2_of<T>(_mm512_min_ps(_mm512_setzero_ps(), x));
    const Floats change = _mm512_sub_ps(floats(mask, slid + c),
                                        floats(mask, dot + c));
    store(share + c, mask, power);
    store(turned + c, mask, _mm512_mul_ps(power, change));
  }
}

template <typename T>
inline float dot_of(const T* a, const T* b, int64_t dim) {
  Floats sum = _mm512_setzero_ps();
  for (int64_t c = 0; c < dim; c += LANES) {
    const __mmask16 mask = lanes(dim - c);
    sum = _mm512_fmadd_ps(floats(mask, a + c), floats(mask, b + c), sum);
  }
  return _mm512_reduce_add_ps(sum);
}

// `dim` values that lie `step` apart, times `by`, rounded.
template <typename T>
inline void round_to(T* to, const float* from, int64_t step, int64_t dim, float by) {
  const __m512i places = apart(step);
  for (int64_t c = 0; c < dim; c += LANES) {
    const __mmask16 mask = lanes(dim - c);
    const Floats x =
        _mm512_mask_i32gather_ps(_mm512_setzero_ps(), mask, places, from + c * step, 4);
    store(to + c, mask, _mm512_mul_ps(x, _mm512_set1_ps(by)));
  }
}

// Two rows, one after the other; no second row is a row of zeros.
inline void pair_rows(const float* first, const float* second, int64_t cols, float* pairs) {
  std::copy_n(first, cols, pairs);
  second ? std::copy_n(second, cols, pairs + cols) : std::fill_n(pairs + cols, cols, 0.0f);
}

// Two rows, element by element in pairs; no second row is a row of zeros.
inline void pair_rows(const Half* first, const Half* second, int64_t cols, Half* pairs) {
  for (int64_t c = 0; c < cols; c += LANES) {
    const __mmask16 mask = lanes(cols - c);
    __m512i both = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, first + c));
    if (second) {
      const __m512i high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, second + c));
      both = _mm512_or_si512(both, _mm512_slli_epi32(high, 16));
    }
    _mm512_mask_storeu_epi32(pairs + 2 * c, mask, both);
  }
}

}  // namespace

// Mirrored by `fused.py`. Strides count elements; the last dimension is contiguous.
struct Shape {
  int64_t batch, heads, queries, keys, dim, threads;
  int64_t q[3], k[3], v[3], out[3], grad[3];  // batch, head, token
  int64_t q_places, k_places;                 // of a sample; 0 where the batch shares them
  int64_t sink;                               // the last key lies at no distance from any query
};

namespace {

template <typename T>
struct Head {
  const T* data;
  int64_t step;
  Head(const T* all, const int64_t* stride, int64_t b, int64_t h)
      : data(all + b * stride[0] + h * stride[1]), step(stride[2]) {}
  const T* row(int64_t token) const { return data + token * step; }
};

// Steps of distance from each of `rows` places to each of `cols`, one row after another.
void distances(const float* from, const float* to, int64_t rows, int64_t cols, int64_t row_of_sink,
               int64_t col_of_sink, float* out) {
  std::vector<float> east(cols), south(cols);
  for (int64_t c = 0; c < cols; c++) {
    const bool none = c == col_of_sink;
    east[c] = none ? 0 : to[2 * c];
    south[c] = none ? 0 : to[2 * c + 1];
  }
  for (int64_t r = 0; r < rows; r++) {
    float* line = out + r * cols;
    if (r == row_of_sink) {
      std::fill(line, line + cols, 0.0f);
      continue;
    }
    const float x = from[2 * r], y = from[2 * r + 1];
    const float *e = east.data(), *s = south.data();
#pragma omp simd
    for (int64_t c = 0; c < cols; c++) {
      const float dx = x - e[c], dy = y - s[c];
      line[c] = std::sqrt(dx * dx + dy * dy);
    }
    if (col_of_sink >= 0 && col_of_sink < cols) line[col_of_sink] = 0;
  }
}

// Rows of a head, for bfloat16 in pairs, [rows / 2][dim][2]; a missing last row is zero.
template <typename T>
void pack_rows(const Head<T>& from, int64_t start, int64_t rows, int64_t dim, T* to) {
  for (int64_t r = 0; r < rows; r += 2)
    pair_rows(from.row(start + r), r + 1 < rows ? from.row(start + r + 1) : nullptr, dim,
              to + r * dim);
}

// Calls use(c, r, mask, 32 bits from column c on of 16 rows from r on) for every such column.
template <typename T, typename Use>
void by_columns(const Head<T>& from, int64_t start, int64_t rows, int64_t dim, Use use) {
  const __m512i places = apart(from.step);
  for (int64_t r = 0; r < rows; r += LANES)
    for (int64_t c = 0; c < dim; c += sizeof(int32_t) / sizeof(T))
      use(c, r, lanes(rows - r),
          _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), lanes(rows - r), places,
                                      from.row(start + r) + c, sizeof(T)));
}

// Rows of a head turned, [dim][rows], for bfloat16 in pairs of channels, [dim / 2][rows][2].
template <typename T>
void pack_columns(const Head<T>& from, int64_t start, int64_t rows, int64_t dim, T* to) {
  constexpr int64_t PAIR = sizeof(int32_t) / sizeof(T);
  by_columns(from, start, rows, dim, [&](int64_t c, int64_t r, __mmask16 mask, __m512i bits) {
    _mm512_mask_storeu_epi32(to + c * rows + PAIR * r, mask, bits);
  });
}

// Rows of a head turned, [dim][even(rows)]; a missing last row is zero.
template <typename T>
void transpose(const Head<T>& from, int64_t start, int64_t rows, int64_t dim, T* to) {
  const int64_t width = even(rows);
  by_columns(from, start, rows, dim, [&](int64_t c, int64_t r, __mmask16 mask, __m512i bits) {
    T* line = to + c * width + r;
    if constexpr (sizeof(T) == sizeof(int32_t)) {
      _mm512_mask_storeu_epi32(line, mask, bits);
    } else {
      _mm512_mask_cvtepi32_storeu_epi16(line, mask, bits);
      _mm512_mask_cvtepi32_storeu_epi16(line + width, mask, _mm512_srli_epi32(bits, 16));
    }
  });
  for (int64_t c = 0; width > rows && c < dim; c++) to[c * width + rows] = 0;
}

// What goes wrong in a thread must not leave it: the first message is kept, the rest left out.
struct Fault {
  std::atomic<bool> any{false};
  std::string what;
  template <typename Work>
  void guard(Work work) {
    if (any) return;
    try {
      work();
    } catch (const std::exception& error) {
      if (!any.exchange(true)) what = error.what();
    }
  }
  void raise() const {
    if (any) throw std::runtime_error(what);
  }
};

// out = softmax(q k / sqrt(dim) - slope * distance) v, and log2 of each query's sum of powers of 2.
template <typename T>
void forward(const Shape* s, const T* q, const T* k, const T* v, const float* q_xy,
                   const float* k_xy, const float* slopes, T* out, float* sums) {
  constexpr int64_t KEYS = 384;
  const int64_t D = s->dim, N = s->queries, K = s->keys, H = s->heads;
  const int64_t q_blocks = blocks(N, QUERIES), k_blocks = blocks(K, KEYS), size = even(K) * D;
  const int64_t groups = blocks(H, GROUP);
  const float scale = LOG2E / std::sqrt(static_cast<float>(D));
  const int64_t units = s->batch * q_blocks * groups;
  const int64_t threads = std::max<int64_t>(1, std::min(s->threads, units));
  std::vector<T> k_packed(s->batch * H * size), v_packed(s->batch * H * size);
  struct Own {  // of a thread
    std::vector<float> steps, logits, mixed, highest, total;
    std::vector<T> shares;
    Own(int64_t dim)
        : steps(QUERIES * KEYS), logits(QUERIES * KEYS), mixed(GROUP * QUERIES * dim),
          highest(GROUP * QUERIES), total(GROUP * QUERIES), shares(QUERIES * KEYS) {}
  };
  std::vector<std::unique_ptr<Own>> own(threads);
  Fault fault;
#pragma omp parallel num_threads(threads)
  {
#pragma omp for schedule(static)
    for (int64_t bh = 0; bh < s->batch * H; bh++)
      for (int64_t at = 0; at < K; at += KEYS) {
        const int64_t rows = std::min(KEYS, K - at);
        pack_columns(Head<T>(k, s->k, bh / H, bh % H), at, rows, D, &k_packed[bh * size + at * D]);
        pack_rows(Head<T>(v, s->v, bh / H, bh % H), at, rows, D, &v_packed[bh * size + at * D]);
      }
    fault.guard([&] { own[omp_get_thread_num()] = std::make_unique<Own>(D); });
#pragma omp for schedule(dynamic)
    for (int64_t unit = 0; unit < units; unit++) fault.guard([&] {
      Own& mine = *own[omp_get_thread_num()];
      auto &steps = mine.steps, &logits = mine.logits, &mixed = mine.mixed;
      auto &highest = mine.highest, &total = mine.total;
      auto& shares = mine.shares;
      const int64_t b = unit / (q_blocks * groups), start = unit / groups % q_blocks * QUERIES;
      const int64_t first = unit % groups * GROUP, last = std::min(H, first + GROUP);
      const int64_t rows = std::min(QUERIES, N - start);
      std::fill(highest.begin(), highest.end(), -std::numeric_limits<float>::max());
      std::fill(total.begin(), total.end(), 0.0f);
      for (int64_t j = 0; j < k_blocks; j++) {
        const int64_t at = j * KEYS, cols = std::min(KEYS, K - at), pairs = even(cols);
        distances(q_xy + b * s->q_places + 2 * start, k_xy + b * s->k_places + 2 * at, rows, cols,
                  -1, s->sink ? K - 1 - at : -1, steps.data());
        for (int64_t h = first; h < last; h++) {
          const Head<T> queries(q, s->q, b, h);
          const T* packed = &k_packed[(b * H + h) * size + at * D];
          float* sum = &mixed[(h - first) * QUERIES * D];
          const float slope = slopes[h] * LOG2E;
          brgemm(rows, cols, D, queries.step, cols, cols, false, queries.row(start), packed,
                 logits.data());
          for (int64_t r = 0; r < rows; r++) {
            float* line = &logits[r * cols];
            T* share = &shares[r * pairs];
            float& high = highest[(h - first) * QUERIES + r];
            float& all = total[(h - first) * QUERIES + r];
            const float top = logits_of(line, &steps[r * cols], cols, scale, slope, high);
            const float added = shares_of(line, cols, top, share);
            if (pairs > cols) share[cols] = T(0);
            if (j > 0) {
              const float shrink = std::exp2(high - top);
              all *= shrink;
#pragma omp simd
              for (int64_t c = 0; c < D; c++) sum[r * D + c] *= shrink;
            }
            high = top;
            all += added;
          }
          brgemm(rows, D, pairs, pairs, D, D, j > 0, shares.data(),
                 &v_packed[(b * H + h) * size + at * D], sum);
        }
      }
      for (int64_t h = first; h < last; h++)
        for (int64_t r = 0; r < rows; r++) {
          const int64_t row = (h - first) * QUERIES + r;
          T* to = out + b * s->out[0] + h * s->out[1] + (start + r) * s->out[2];
          round_to(to, &mixed[row * D], 1, D, 1 / total[row]);
          sums[(b * H + h) * N + start + r] = highest[row] + std::log2(total[row]);
        }
    });
    brgemm_release(sizeof(T) == 2);
  }
  fault.raise();
}

// Gradients of q, k and v, contiguous (batch, tokens, heads, dim), from that of `out`.
template <typename T>
void backward(const Shape* s, const T* q, const T* k, const T* v, const float* q_xy,
                    const float* k_xy, const float* slopes, const T* out, const float* sums,
                    const T* grad, T* to_q, T* to_k, T* to_v) {
  constexpr int64_t KEYS = 256;
  const int64_t D = s->dim, N = s->queries, K = s->keys, H = s->heads, size = even(N) * D;
  const float root = 1 / std::sqrt(static_cast<float>(D)), scale = LOG2E * root;
  const int64_t many = std::max<int64_t>(1, s->batch * H / s->threads);
  const int64_t group = std::min(GROUP, many), groups = blocks(H, group);
  const int64_t threads = std::max<int64_t>(1, std::min(s->threads, s->batch * groups));
  struct Own {  // of a thread
    std::vector<float> steps, logits, change, dots, q_sum, k_sum, v_sum;
    std::vector<T> shares, by_key, by_pair, k_turned, q_rows, q_cols, grad_rows, grad_cols;
    Own(int64_t heads, int64_t queries, int64_t dim)
        : steps(QUERIES * KEYS), logits(QUERIES * KEYS), change(QUERIES * KEYS),
          dots(heads * queries), q_sum(heads * queries * dim), k_sum(heads * KEYS * dim),
          v_sum(heads * KEYS * dim), shares(QUERIES * KEYS), by_key(QUERIES * KEYS),
          by_pair(QUERIES * KEYS), k_turned(heads * KEYS * dim),
          q_rows(heads * even(queries) * dim), q_cols(heads * even(queries) * dim),
          grad_rows(heads * even(queries) * dim), grad_cols(heads * even(queries) * dim) {}
  };
  std::vector<std::unique_ptr<Own>> all(threads);
  Fault fault;
#pragma omp parallel num_threads(threads)
  {
    fault.guard([&] { all[omp_get_thread_num()] = std::make_unique<Own>(group, N, D); });
#pragma omp for schedule(dynamic)
    for (int64_t unit = 0; unit < s->batch * groups; unit++) fault.guard([&] {
      Own& mine = *all[omp_get_thread_num()];
      auto &steps = mine.steps, &logits = mine.logits, &change = mine.change, &dots = mine.dots;
      auto &q_sum = mine.q_sum, &k_sum = mine.k_sum, &v_sum = mine.v_sum;
      auto &shares = mine.shares, &by_key = mine.by_key, &by_pair = mine.by_pair;
      auto &k_turned = mine.k_turned, &q_rows = mine.q_rows, &q_cols = mine.q_cols;
      auto &grad_rows = mine.grad_rows, &grad_cols = mine.grad_cols;
      const int64_t b = unit / groups, first = unit % groups * group;
      const int64_t last = std::min(H, first + group);
      for (int64_t h = first; h < last; h++) {
        const Head<T> queries(q, s->q, b, h), results(out, s->out, b, h);
        const Head<T> grads(grad, s->grad, b, h);
        for (int64_t at = 0; at < N; at += QUERIES) {
          const int64_t rows = std::min(QUERIES, N - at), to = (h - first) * size + at * D;
          pack_rows(queries, at, rows, D, &q_rows[to]);
          pack_columns(queries, at, rows, D, &q_cols[to]);
          pack_rows(grads, at, rows, D, &grad_rows[to]);
          pack_columns(grads, at, rows, D, &grad_cols[to]);
        }
        for (int64_t r = 0; r < N; r++)
          dots[(h - first) * N + r] = dot_of(results.row(r), grads.row(r), D);
      }
      std::fill(q_sum.begin(), q_sum.end(), 0.0f);
      for (int64_t from = 0; from < K; from += KEYS) {
        const int64_t rows = std::min(KEYS, K - from);
        for (int64_t h = first; h < last; h++)
          transpose(Head<T>(k, s->k, b, h), from, rows, D, &k_turned[(h - first) * D * KEYS]);
        for (int64_t at = 0; at < N; at += QUERIES) {
          const int64_t cols = std::min(QUERIES, N - at), pairs = even(cols);
          distances(k_xy + b * s->k_places + 2 * from, q_xy + b * s->q_places + 2 * at, rows, cols,
                    s->sink ? K - 1 - from : -1, -1, steps.data());
          for (int64_t h = first; h < last; h++) {
            const Head<T> keys(k, s->k, b, h), values(v, s->v, b, h);
            const int64_t own = h - first, packed = own * size + at * D;
            const float slope = slopes[h] * LOG2E;
            const float* total = sums + (b * H + h) * N + at;
            const float* dot = &dots[own * N + at];
            brgemm(rows, cols, D, keys.step, cols, cols, false, keys.row(from), &q_cols[packed],
                   logits.data());
            brgemm(rows, cols, D, values.step, cols, cols, false, values.row(from),
                   &grad_cols[packed], change.data());
            for (int64_t r = 0; r < rows; r++) {
              T *share = &shares[r * pairs], *turned = &by_key[r * pairs];
              changes_of(&logits[r * cols], &steps[r * cols], &change[r * cols], total, dot, cols,
                         scale, slope, share, turned);
              if (pairs > cols) share[cols] = turned[cols] = T(0);
              if (r % 2 || r + 1 == rows)
                pair_rows(r % 2 ? turned - pairs : turned, r % 2 ? turned : nullptr, cols,
                          &by_pair[r / 2 * cols * 2]);
            }
            brgemm(rows, D, pairs, pairs, D, D, at > 0, shares.data(), &grad_rows[packed],
                   &v_sum[own * KEYS * D]);
            brgemm(rows, D, pairs, pairs, D, D, at > 0, by_key.data(), &q_rows[packed],
                   &k_sum[own * KEYS * D]);
            brgemm(D, cols, even(rows), even(rows), cols, cols, true, &k_turned[own * D * KEYS],
                   by_pair.data(), &q_sum[(own * N + at) * D]);
          }
        }
        for (int64_t h = first; h < last; h++)
          for (int64_t r = 0; r < rows; r++) {
            const int64_t to = ((b * K + from + r) * H + h) * D, row = (h - first) * KEYS + r;
            round_to(to_k + to, &k_sum[row * D], 1, D, root);
            round_to(to_v + to, &v_sum[row * D], 1, D, 1);
          }
      }
      for (int64_t h = first; h < last; h++)
        for (int64_t r = 0; r < N; r++) {
          const int64_t at = r / QUERIES * QUERIES, cols = std::min(QUERIES, N - at);
          round_to(to_q + ((b * N + r) * H + h) * D, &q_sum[((h - first) * N + at) * D + r - at],
                   cols, D, root);
        }
    });
    brgemm_release(sizeof(T) == 2);
  }
  fault.raise();
}


// nullptr, or what went wrong.
template <typename Work>
const char* told(Work work) {
  static thread_local std::string fault;
  try {
    work();
    return nullptr;
  } catch (const std::exception& error) {
    fault = error.what();
    return fault.c_str();
  }
}

}  // namespace

#define SALIB_ATTENTION(NAME, T)                                                                  \
  extern "C" const char* salib_forward_##NAME(                                                    \
      const Shape* s, const T* q, const T* k, const T* v, const float* q_xy, const float* k_xy,   \
      const float* slopes, T* out, float* sums) {                                                 \
    return told([&] { forward<T>(s, q, k, v, q_xy, k_xy, slopes, out, sums); });                  \
  }                                                                                               \
  extern "C" const char* salib_backward_##NAME(                                                   \
      const Shape* s, const T* q, const T* k, const T* v, const float* q_xy, const float* k_xy,   \
      const float* slopes, const T* out, const float* sums, const T* grad, T* to_q, T* to_k,      \
      T* to_v) {                                                                                  \
    return told([&] {                                                                             \
      backward<T>(s, q, k, v, q_xy, k_xy, slopes, out, sums, grad, to_q, to_k, to_v);             \
    });                                                                                           \
  }

SALIB_ATTENTION(float32, float)
#ifdef __AVX512BF16__
SALIB_ATTENTION(bfloat16, Half)
#endif
