#include "tests/bench/row_source.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "proto/token_trace.h"

namespace engram::bench {
namespace {

constexpr size_t kPoolIds = size_t{4} << 20;
constexpr uint64_t kIdsSeed = 1;

std::vector<int64_t> DrawUniform(uint64_t rows, size_t count) {
  std::mt19937_64 random(kIdsSeed);
  std::uniform_int_distribution<int64_t> row(0, static_cast<int64_t>(rows) - 1);
  std::vector<int64_t> ids(count);
  for (int64_t& id : ids) id = row(random);
  return ids;
}

// Ranks 1 .. n with probability ~ rank^-s by rejection-inversion (Hoermann and Derflinger 1996):
// needs no sum over n, which may be a hundred million.
class ZipfRank {
 public:
  explicit ZipfRank(uint64_t n)
      : n_(static_cast<double>(n)), low_(Integral(1.5) - 1.0), high_(Integral(n_ + 0.5)) {}

  uint64_t operator()(std::mt19937_64& random) const {
    std::uniform_real_distribution<double> uniform(low_, high_);
    while (true) {
      const double u = uniform(random);
      const double rank = std::clamp(std::round(InverseIntegral(u)), 1.0, n_);
      if (u >= Integral(rank + 0.5) - std::pow(rank, -kExponent))
        return static_cast<uint64_t>(rank);
    }
  }

 private:
  static constexpr double kExponent = 0.99;
  static double Integral(double x) { return std::pow(x, 1 - kExponent) / (1 - kExponent); }
  static double InverseIntegral(double y) {
    return std::pow(y * (1 - kExponent), 1 / (1 - kExponent));
  }

  const double n_;
  const double low_;
  const double high_;
};

std::vector<int64_t> DrawZipf(uint64_t rows, size_t count) {
  // Multiplying by a prime that does not divide `rows` permutes them: neighbours in rank must not
  // be neighbours in memory, as they are not in a hash table.
  constexpr uint64_t kSpread = 2654435761;
  std::mt19937_64 random(kIdsSeed);
  const ZipfRank rank(rows);
  std::vector<int64_t> ids(count);
  for (int64_t& id : ids) id = static_cast<int64_t>((rank(random) - 1) * kSpread % rows);
  return ids;
}

absl::StatusOr<std::vector<uint32_t>> CompressAll(const TokenMap& map,
                                                  const std::vector<uint32_t>& tokens) {
  std::vector<uint32_t> compressed;
  compressed.reserve(tokens.size());
  for (uint32_t token : tokens) {
    ASSIGN_OR_RETURN(uint32_t id, map.Compress(token));
    compressed.push_back(id);
  }
  return compressed;
}

absl::StatusOr<std::vector<int64_t>> HashTrace(const Client& client, size_t layer_index,
                                               const std::string& path) {
  const TokenMap* map = client.token_map();
  if (map == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot hash the trace ", path, ": the servers have no token map"));
  }
  ASSIGN_OR_RETURN(TokenTrace trace, ReadTokenTrace(path));
  ASSIGN_OR_RETURN(uint32_t pad, map->Compress(client.geometry().params().pad_token));
  ASSIGN_OR_RETURN(RowHasher hasher, RowHasher::Create(client.geometry(), pad));
  std::vector<int64_t> ids;
  for (const std::vector<uint32_t>& tokens : trace) {
    if (ids.size() >= kPoolIds) break;
    ASSIGN_OR_RETURN(std::vector<uint32_t> compressed, CompressAll(*map, tokens));
    const size_t before = ids.size();
    ids.resize(before + compressed.size() * hasher.columns());
    hasher.HashChunk(layer_index, compressed, {}, LookBack(),
                     std::span<int64_t>(ids).subspan(before));
  }
  return ids;
}

}  // namespace

absl::StatusOr<std::vector<int64_t>> DrawRows(const Client& client, uint32_t layer,
                                              const std::string& kind, size_t min_ids) {
  ASSIGN_OR_RETURN(size_t index, client.geometry().LayerIndex(layer));
  const uint64_t rows = client.geometry().layers()[index].rows;
  const size_t count = std::max(min_ids, kPoolIds);
  if (kind == "uniform") return DrawUniform(rows, count);
  if (kind == "zipf") return DrawZipf(rows, count);
  if (!absl::StartsWith(kind, "trace:")) {
    return absl::InvalidArgumentError(
        absl::StrCat("--ids is '", kind, "', not uniform, zipf or trace:FILE"));
  }
  ASSIGN_OR_RETURN(std::vector<int64_t> ids, HashTrace(client, index, kind.substr(6)));
  const size_t whole = ids.size();
  while (ids.size() < min_ids) ids.push_back(ids[ids.size() - whole]);
  return ids;
}

}  // namespace engram::bench
