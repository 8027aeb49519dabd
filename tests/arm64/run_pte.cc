// The greedy answer of a Mellow program of ExecuTorch, in C++ alone: no Python, no torch.
//
//     run_pte MODEL.pte AUDIO IDS SEPARATOR COUNT
//
// AUDIO holds one or two clips as float32, IDS the padded prompt as int64. Prints COUNT token ids.
// The wheel has the two operators of attention only together with torch, so they are written out here; a build from
// ExecuTorch's sources links its own. Quantized programs need no more operators: XNNPACK has all their products.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>
#include <vector>

#include <executorch/extension/kernel_util/make_boxed_from_unboxed_functor.h>
#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>
#include <executorch/runtime/kernel/kernel_includes.h>

using executorch::aten::Tensor;
using executorch::extension::from_blob;
using executorch::extension::Module;
using executorch::runtime::EValue;
using executorch::runtime::KernelRuntimeContext;

namespace attention {

// `value` (1, T, heads, size) is written into `cache` (1, positions, heads, size) from `start` on.
Tensor& update_cache(KernelRuntimeContext& context, const Tensor& value, Tensor& cache, int64_t start, Tensor& out) {
  (void)context;
  const size_t row = value.size(2) * value.size(3);
  std::memcpy(
      cache.mutable_data_ptr<float>() + start * row, value.const_data_ptr<float>(), value.size(1) * row * sizeof(float));
  return out;
}

// Causal attention of `query` (1, T, heads, size), at positions `start` and on, over caches of fewer heads.
Tensor& custom_sdpa(
    KernelRuntimeContext& context, const Tensor& query, const Tensor& keys, const Tensor& values, int64_t start,
    const std::optional<Tensor>& mask, double dropout, bool causal, const std::optional<double> scale, Tensor& out) {
  if (mask.has_value() || dropout != 0 || !causal || resize_tensor(out, query.sizes()) != torch::executor::Error::Ok) {
    context.fail(torch::executor::Error::NotSupported);
    return out;
  }
  const int64_t steps = query.size(1), heads = query.size(2), size = query.size(3), shared = heads / keys.size(2);
  const double factor = scale.value_or(1 / std::sqrt(double(size)));
  const float *q = query.const_data_ptr<float>(), *k = keys.const_data_ptr<float>(),
              *v = values.const_data_ptr<float>();
  float* result = out.mutable_data_ptr<float>();
  std::vector<double> weights(start + steps);
  for (int64_t step = 0; step < steps; ++step) {
    for (int64_t head = 0; head < heads; ++head) {
      const int64_t own = (step * heads + head) * size, seen = start + step + 1;
      const auto row = [&](int64_t position) { return (position * keys.size(2) + head / shared) * size; };
      double peak = -INFINITY, total = 0;
      for (int64_t position = 0; position < seen; ++position) {
        double product = 0;
        for (int64_t i = 0; i < size; ++i) product += double(q[own + i]) * k[row(position) + i];
        weights[position] = product * factor;
        peak = std::fmax(peak, weights[position]);
      }
      for (int64_t position = 0; position < seen; ++position) {
        total += weights[position] = std::exp(weights[position] - peak);
      }
      for (int64_t i = 0; i < size; ++i) {
        double mixed = 0;
        for (int64_t position = 0; position < seen; ++position) mixed += weights[position] * v[row(position) + i];
        result[own + i] = float(mixed / total);
      }
    }
  }
  return out;
}

}  // namespace attention

EXECUTORCH_LIBRARY(llama, "update_cache.out", attention::update_cache);
EXECUTORCH_LIBRARY(llama, "custom_sdpa.out", attention::custom_sdpa);

template <typename T>
std::vector<T> read(const char* path) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  if (values.empty()) {
    std::fprintf(stderr, "%s is missing or empty\n", path);
    std::exit(2);
  }
  return values;
}

// The first output of a method as a copy, because the next run of any method writes over it.
std::vector<float> run(Module& module, const char* method, std::vector<EValue> inputs) {
  const auto result = module.execute(method, inputs);
  if (!result.ok()) {
    std::fprintf(stderr, "%s ended with error %d\n", method, int(result.error()));
    std::exit(1);
  }
  const Tensor& tensor = result->at(0).toTensor();
  return {tensor.const_data_ptr<float>(), tensor.const_data_ptr<float>() + tensor.numel()};
}

std::vector<float> embed(Module& module, std::vector<int64_t> ids) {
  auto tensor = from_blob(ids.data(), {1, int(ids.size())}, executorch::aten::ScalarType::Long);
  return run(module, "token_embedding", {tensor});
}

int main(int count, char** arguments) {
  if (count != 6) {
    std::fprintf(stderr, "usage: run_pte MODEL.pte AUDIO IDS SEPARATOR COUNT\n");
    return 2;
  }
  Module module(arguments[1]);
  auto audio = read<float>(arguments[2]);
  const auto prompt = read<int64_t>(arguments[3]);
  const auto inputs = module.method_meta("audio_encoder");
  if (!inputs.ok()) {
    std::fprintf(stderr, "%s cannot be loaded: error %d\n", arguments[1], int(inputs.error()));
    return 1;
  }
  const int samples = inputs->input_tensor_meta(0)->sizes()[2];
  const auto separator = embed(module, {std::atoll(arguments[4])});
  const int width = int(separator.size());

  std::vector<float> rows;
  for (int slot = 0; slot < 2; ++slot) {
    float* clip = audio.data() + (int(audio.size()) >= 2 * samples ? slot * samples : 0);
    const auto tokens = run(module, "audio_encoder", {from_blob(clip, {1, 1, samples})});
    rows.insert(rows.end(), tokens.begin(), tokens.end());
    rows.insert(rows.end(), separator.begin(), separator.end());
  }
  const auto question = embed(module, prompt);
  rows.insert(rows.end(), question.begin(), question.end());

  int64_t position = 0;
  for (int left = std::atoi(arguments[5]); left > 0; --left) {
    const int length = int(rows.size()) / width;
    const auto logits =
        run(module, "text_decoder", {from_blob(rows.data(), {1, length, width}),
                                     from_blob(&position, {1}, executorch::aten::ScalarType::Long)});
    const int64_t token = std::max_element(logits.begin(), logits.end()) - logits.begin();
    std::printf("%lld\n", static_cast<long long>(token));
    position += length;
    rows = embed(module, {token});
  }
  return 0;
}
