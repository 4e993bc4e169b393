#include "storage/verifier.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/match.h"
#include "proto/crc32c.h"
#include "storage/memory_store.h"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

class VerifierTest : public ::testing::Test {
 protected:
  // A store of zero rows over two blocks and a half.
  void SetUp() override {
    GeometryParams params;
    params.layer_ids = {4};
    params.max_ngram = 2;
    params.heads = 2;
    params.bucket_floors = {80000};
    params.compressed_vocab = 10;
    geometry_ = *Geometry::Derive(params);
    const RowLayout layout = PackedFp8Layout(32);
    store_ = *MemoryStore::Create(geometry_.value(), layout, ShardRanges(*geometry_, {}));
    const MemoryStore::Place place = store_->PlaceOf(4, 0);
    std::fill_n(place.checksums, rows(), ZeroRowChecksum(layout));
  }
  uint64_t rows() const { return geometry_->total_rows(); }

  template <typename Condition>
  static bool WaitFor(Condition condition) {
    const absl::Time limit = absl::Now() + absl::Seconds(20);
    while (!condition() && absl::Now() < limit) absl::SleepFor(absl::Milliseconds(1));
    return condition();
  }
  VerifierOptions Options() {
    VerifierOptions options;
    options.log = [this](absl::string_view line) {
      MutexLock lock(&mutex_);
      log_ += std::string(line) + "\n";
    };
    return options;
  }

  std::optional<Geometry> geometry_;
  std::unique_ptr<MemoryStore> store_;
  Mutex mutex_;
  std::string log_;
};

TEST_F(VerifierTest, OnePassOverEveryRow) {
  {
    const Verifier verifier(*store_, Options());
    EXPECT_TRUE(WaitFor([&] { return store_->state().verified_passes == 1; }));
  }
  EXPECT_EQ(store_->state().verified_rows, rows());
  EXPECT_FALSE(store_->state().failed());
  EXPECT_TRUE(absl::StrContains(log_, "verified: ")) << log_;
}

TEST_F(VerifierTest, PassAfterPassWhereAsked) {
  VerifierOptions options = Options();
  options.interval = absl::Milliseconds(1);
  const Verifier verifier(*store_, options);
  EXPECT_TRUE(WaitFor([&] { return store_->state().verified_passes >= 3; }));
}

TEST_F(VerifierTest, AFlippedBitFailsTheStore) {
  store_->PlaceOf(4, 70001).rows[3] ^= 4;
  const Verifier verifier(*store_, Options());
  EXPECT_TRUE(WaitFor([&] { return store_->state().failed(); }));
  EXPECT_THAT(store_->state().failure(),
              StatusIs(absl::StatusCode::kDataLoss, "row 70001 of layer 4 differs in memory"));
  EXPECT_EQ(store_->state().verified_passes, 0u);
  EXPECT_EQ(store_->state().verified_rows, 65536u);
}

TEST_F(VerifierTest, KeepsToItsRateAndStopsAtOnce) {
  VerifierOptions options = Options();
  options.bytes_per_second = 1000;  // over a quarter of an hour for the first block alone
  const absl::Time start = absl::Now();
  {
    const Verifier verifier(*store_, options);
    EXPECT_TRUE(WaitFor([&] { return store_->state().verified_rows > 0; }));
  }
  EXPECT_EQ(store_->state().verified_rows, 65536u);
  EXPECT_LT(absl::Now() - start, absl::Seconds(30));
}

TEST_F(VerifierTest, AllAtOnceWithProgress) {
  EXPECT_THAT(VerifyAll(*store_, {2, "verifying", nullptr}), IsOk());
  store_->PlaceOf(4, 150000).rows[0] = 1;
  EXPECT_THAT(VerifyAll(*store_, {2, "verifying", nullptr}),
              StatusIs(absl::StatusCode::kDataLoss, "row 150000 of layer 4"));
}

TEST(StoreState, TheFirstFailureStaysAndIsToldOnce) {
  StoreState state;
  int told = 0;
  state.Listen([&] { ++told; });
  EXPECT_THAT(state.failure(), IsOk());
  state.Fail(absl::DataLossError("first"));
  state.Fail(absl::DataLossError("second"));
  EXPECT_THAT(state.failure(), StatusIs(absl::StatusCode::kDataLoss, "first"));
  EXPECT_EQ(told, 1);
  state.Listen([&] { told += 10; });  // Who comes late is told at once.
  EXPECT_EQ(told, 11);
  state.Listen(nullptr);
}

}  // namespace
}  // namespace engram
