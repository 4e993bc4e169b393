#include "proto/base/counters.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "proto/base/metric.h"

namespace engram {
namespace {

TEST(Counters, BucketsHoldWhatIsAtOrBelowTheirBounds) {
  RowHistogram rows;
  for (const uint64_t value : {0, 1, 2, 4, 5, 512, 65536, 65537}) {
    rows.Observe(static_cast<uint64_t>(value));
  }
  HistogramCounts counts;
  rows.AddTo(counts);
  EXPECT_EQ(counts.buckets, (std::vector<uint64_t>{2, 2, 1, 0, 0, 1, 0, 0, 0, 1, 1}));
  EXPECT_EQ(counts.sum, 0u + 1 + 2 + 4 + 5 + 512 + 65536 + 65537);
  EXPECT_EQ(counts.count(), 8u);
  rows.AddTo(counts);  // of another thread, say
  EXPECT_EQ(counts.count(), 16u);
}

TEST(Counters, AClockThatRanBackwardsIsNoTime) {
  LatencyHistogram histogram;
  histogram.Observe(absl::Seconds(-1));
  histogram.Observe(absl::Microseconds(10));
  histogram.Observe(absl::Seconds(2));
  HistogramCounts counts;
  histogram.AddTo(counts);
  EXPECT_EQ(counts.buckets.front(), 2u);
  EXPECT_EQ(counts.buckets.back(), 1u);
  EXPECT_EQ(counts.sum, 2'000'010'000u);
}

TEST(Counters, GaugesGoDown) {
  Count count;
  count.Add(7);
  count.Subtract(3);
  EXPECT_EQ(count.value(), 4u);
}

TEST(Counters, SharedOnesLoseNothing) {
  SharedLatencyHistogram histogram;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (uint64_t n = 0; n < 10000; ++n) histogram.Observe(n);
    });
  }
  for (std::thread& thread : threads) thread.join();
  HistogramCounts counts;
  histogram.AddTo(counts);
  EXPECT_EQ(counts.count(), 40000u);
  EXPECT_EQ(counts.sum, 4u * 49995000);
}

TEST(Counters, BoundsAreExportedAsTheyAreWritten) {
  MetricList list;
  list.Latency("a_seconds", "help", HistogramCounts(), {{"layer", "1"}});
  list.Latency("a_seconds", "help", HistogramCounts(), {{"layer", "2"}});
  list.Counter("b_total", "help", 3);
  const std::vector<MetricFamily> families = std::move(list).Take();
  ASSERT_EQ(families.size(), 2u);
  ASSERT_EQ(families[0].samples.size(), 2u);
  const MetricSample& sample = families[0].samples[0];
  EXPECT_EQ(sample.bounds.front(), 1e-5);
  EXPECT_EQ(sample.bounds[18], 0.005);  // what rules ask for
  EXPECT_EQ(sample.bounds.back(), 1);
  EXPECT_EQ(sample.buckets.size(), sample.bounds.size() + 1);
  EXPECT_EQ(families[1].samples[0].value, 3);
}

}  // namespace
}  // namespace engram
