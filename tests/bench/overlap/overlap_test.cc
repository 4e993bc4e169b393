// What the benchmark of overlap makes of times and ids; that it measures is tests/cli's to see.
#include <fcntl.h>
#include <unistd.h>

#include <numeric>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/row_ids.h"
#include "tests/bench/overlap/link.h"
#include "tests/bench/overlap/link_forwarder.h"
#include "tests/bench/overlap/overhead.h"
#include "tests/bench/overlap/report.h"
#include "tests/bench/overlap/step_run.h"
#include "tests/bench/overlap/svg.h"
#include "tests/bench/statistics.h"
#include "tests/support/status_matchers.h"

namespace engram::bench {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;

// ---------------------------------------------------------------- statistics

TEST(StatisticsTest, PercentileIsTheNearestRank) {
  std::vector<double> values(100);
  std::iota(values.begin(), values.end(), 1.0);
  EXPECT_EQ(Percentile(values, 0.5), 50);
  EXPECT_EQ(Percentile(values, 0.99), 99);
  EXPECT_EQ(Percentile(values, 1), 100);
  EXPECT_EQ(Percentile({7}, 0.01), 7);
}

TEST(OverheadTest, OfMediansAndNotSwayedByOneRound) {
  const Overhead overhead = OverheadOf({12.12, 12.12, 30, 12.12, 12.12}, {12, 12, 12, 12, 12});
  EXPECT_NEAR(overhead.value, 0.01, 1e-9);
  EXPECT_NEAR(overhead.low, 0.01, 1e-9);
  EXPECT_GE(overhead.high, overhead.value);
}

TEST(OverheadTest, IntervalHoldsTheValueAndGrowsWithTheSpread) {
  const std::vector<double> base(9, 10.0);
  const Overhead quiet = OverheadOf({10.1, 10.1, 10.1, 10.1, 10.1, 10.1, 10.1, 10.1, 10.1}, base);
  const Overhead noisy = OverheadOf({10, 10.05, 10.1, 10.2, 10.3, 10.1, 10, 10.05, 10.2}, base);
  EXPECT_NEAR(quiet.high - quiet.low, 0, 1e-12);
  EXPECT_GT(noisy.high - noisy.low, 0.001);
  EXPECT_LE(noisy.low, noisy.value);
  EXPECT_GE(noisy.high, noisy.value);
}

// ---------------------------------------------------------------- timeline

TEST(StepTimelineTest, ShiftsEverythingAfterAStall) {
  const Clock::time_point launch(milliseconds(100));
  StepTimeline timeline(launch, EqualLayers(12, 40));
  EXPECT_EQ(timeline.LayerBegins(1) - launch, microseconds(300));
  EXPECT_EQ(timeline.Ends() - launch, milliseconds(12));
  const Clock::time_point wanted = timeline.LayerBegins(1);
  EXPECT_EQ(timeline.Wait(wanted, wanted + microseconds(250)), microseconds(250));
  EXPECT_EQ(timeline.LayerBegins(14) - launch, microseconds(14 * 300 + 250));
  EXPECT_EQ(timeline.Wait(timeline.LayerBegins(14), timeline.LayerBegins(14) + microseconds(100)),
            microseconds(100));
  EXPECT_EQ(timeline.Ends() - launch, microseconds(12350));
}

TEST(StepTimelineTest, RowsInTimeAndWaitsBelowTheLeastAreNoStall) {
  const Clock::time_point launch(milliseconds(100));
  StepTimeline timeline(launch, EqualLayers(12, 40));
  const Clock::time_point wanted = timeline.LayerBegins(1);
  EXPECT_EQ(timeline.Wait(wanted, launch), Clock::duration(0));
  EXPECT_EQ(timeline.Wait(wanted, wanted + microseconds(9)), Clock::duration(0));
  EXPECT_EQ(timeline.Ends() - launch, milliseconds(12));
}

std::vector<int> TablesInOrder(milliseconds known_ahead) {
  std::vector<int> order;
  for (const StepEvent& event : EventsOfStep(EqualLayers(12, 40), {1, 14}, known_ahead)) {
    order.push_back(event.table.has_value() ? static_cast<int>(*event.table) : -1);
  }
  return order;
}

TEST(EventsOfStepTest, NextIdsComeWhereTheyAreKnown) {
  EXPECT_THAT(TablesInOrder(milliseconds(0)), ElementsAre(0, 1));
  EXPECT_THAT(TablesInOrder(milliseconds(3)), ElementsAre(0, 1, -1));
  EXPECT_THAT(TablesInOrder(milliseconds(9)), ElementsAre(0, -1, 1));
  EXPECT_THAT(TablesInOrder(milliseconds(12)), ElementsAre(-1, 0, 1));
}

// ---------------------------------------------------------------- shapes

TEST(ShapeTest, NamedOnesAreValidAndHaveTheirGoals) {
  std::set<std::string> names;
  for (const Shape& shape : NamedShapes()) {
    EXPECT_THAT(shape.Validate(), IsOk());
    names.insert(shape.name);
  }
  EXPECT_THAT(names, testing::UnorderedElementsAre(
                         "decode-64-12ms", "decode-64-48ms", "verify-64x6-12ms-ahead",
                         "verify-64x6-12ms", "decode-1-sm100", "decode-16-sm100",
                         "prefill-8192-ahead", "prefill-8192", "replica-slow", "replica-killed"));
  ASSERT_OK_AND_ASSIGN(const Shape decode, FindShape("decode-64-48ms"));
  EXPECT_EQ(decode.goal, 0.003);
  EXPECT_EQ(decode.tokens(), 64u);
  EXPECT_EQ(decode.step(), milliseconds(48));
  EXPECT_THAT(FindShape("decode").status(),
              StatusIs(absl::StatusCode::kNotFound, "no shape `decode`; there are decode-64-12ms"));
}

TEST(ShapeTest, RefusesWhatCannotBeRun) {
  ASSERT_OK_AND_ASSIGN(Shape shape, FindShape("decode-64-12ms"));
  shape.known_ahead = milliseconds(13);
  EXPECT_THAT(shape.Validate(),
              StatusIs(absl::StatusCode::kInvalidArgument, "ids are known between 0 and one step"));
  shape.known_ahead = milliseconds(0);
  shape.layers[3] = microseconds(0);
  EXPECT_THAT(shape.Validate(),
              StatusIs(absl::StatusCode::kInvalidArgument, "a layer takes no time"));
}

// ---------------------------------------------------------------- ids

Geometry SmallGeometry() {
  GeometryParams params;
  params.layer_ids = {1, 3};
  params.max_ngram = 3;
  params.heads = 2;
  params.bucket_floors = {50, 50};
  params.compressed_vocab = 40;
  return *Geometry::Derive(params);
}

Shape SmallShape() {
  Shape shape;
  shape.name = "small";
  shape.sequences = 2;
  shape.tokens_per_sequence = 3;
  shape.layers = EqualLayers(2, 5);
  return shape;
}

TEST(StepPoolTest, StepsOfASequenceHashAsItsWholeText) {
  const Geometry geometry = SmallGeometry();
  // Tokens beyond the vocabulary come down to it.
  const TokenTrace trace = {{1, 2, 3, 44, 5, 6, 7}, {8, 9, 10, 11, 52, 13, 14, 15}};
  ASSERT_OK_AND_ASSIGN(const StepPool pool,
                       StepPool::Hash(geometry, nullptr, trace, SmallShape(), 100));
  ASSERT_EQ(pool.size(), 2u);  // windows of 7
  ASSERT_OK_AND_ASSIGN(const RowHasher hasher,
                       RowHasher::Create(geometry, geometry.params().pad_token));
  const std::vector<uint32_t> second = {8, 9, 10, 11, 12, 13};
  std::vector<int64_t> whole(second.size() * hasher.columns());
  hasher.HashChunk(1, second, {}, LookBack(), whole);
  std::vector<int64_t> stepped;
  const size_t ids = 3 * hasher.columns();
  for (size_t step = 0; step < 2; ++step) {
    const auto begin = pool[step][1].begin() + static_cast<ptrdiff_t>(ids);
    stepped.insert(stepped.end(), begin, begin + static_cast<ptrdiff_t>(ids));
  }
  EXPECT_EQ(stepped, whole);
  EXPECT_EQ(&pool[2], &pool[0]);
}

TEST(StepPoolTest, SaysHowMuchTextIsMissing) {
  EXPECT_THAT(StepPool::Hash(SmallGeometry(), nullptr, {{1, 2, 3}}, SmallShape(), 1).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "has 3 tokens where a step of shape "
                       "small needs 6"));
}

// ---------------------------------------------------------------- runs

// Rows of table 0 come `delay_` after they were asked for, those of table 1 at once.
class DelayedRows final : public RowProvider {
 public:
  explicit DelayedRows(Clock::duration delay) : delay_(delay) {}
  void Ask(size_t slot, const StepIds&, std::span<const size_t> tables) override {
    for (const size_t table : tables) {
      arrives_[slot][table] = Clock::now() + (table == 0 ? delay_ : Clock::duration(0));
    }
  }
  Arrival Wait(size_t slot, size_t table) override {
    return {arrives_[slot][table], absl::UnavailableError("lost")};
  }

 private:
  const Clock::duration delay_;
  Clock::time_point arrives_[StepBuffers::kSlots][2];
};

struct Ran {
  std::vector<StepRecord> steps;
  absl::Status failure;
};

Ran RunDelayed(Variant variant, milliseconds delay, milliseconds known_ahead) {
  Shape shape = SmallShape();
  shape.layers = EqualLayers(10, 5);
  shape.known_ahead = known_ahead;
  shape.steps = 3;
  const StepPool ids =
      *StepPool::Hash(SmallGeometry(), nullptr, {std::vector<uint32_t>(32, 1)}, shape, 100);
  const std::vector<uint32_t> layers = {1, 3};
  DelayedRows rows(delay);
  Ran ran;
  StepRun run{shape, variant, ids, layers, variant == Variant::kNone ? nullptr : &rows};
  run.failure = &ran.failure;
  ran.steps = RunSteps(run);
  return ran;
}

TEST(StepRunTest, StepsWithoutTablesTakeTheirTime) {
  for (const StepRecord& step : RunDelayed(Variant::kNone, milliseconds(0), {}).steps) {
    EXPECT_EQ(step.length(), milliseconds(10));
    EXPECT_TRUE(step.tables.empty());
  }
}

TEST(StepRunTest, WaitsForWhatComesAfterTheLayer) {
  const Ran ran = RunDelayed(Variant::kAhead, milliseconds(5), milliseconds(0));
  EXPECT_THAT(ran.failure, StatusIs(absl::StatusCode::kUnavailable, "lost"));
  ASSERT_EQ(ran.steps.size(), 3u);
  for (const StepRecord& step : ran.steps) {
    ASSERT_EQ(step.tables.size(), 2u);
    // Asked for after the step's begin; layer 1 begins 2 ms after it.
    EXPECT_GE(step.tables[0].stall, milliseconds(3));
    EXPECT_EQ(step.tables[0].stall, step.tables[0].arrived - step.tables[0].wanted);
    EXPECT_EQ(step.tables[1].stall, Clock::duration(0));
    EXPECT_EQ(step.length(), milliseconds(10) + step.tables[0].stall);
    EXPECT_TRUE(step.tables[0].failed);
  }
}

TEST(StepRunTest, WhatIsKnownBeforeTheStepIsThereWhenItIsWanted) {
  for (const milliseconds known_ahead : {milliseconds(4), milliseconds(10)}) {
    const Ran ran = RunDelayed(Variant::kAhead, milliseconds(3), known_ahead);
    for (const StepRecord& step : ran.steps) {
      EXPECT_LT(step.tables[0].asked, step.begin);
    }
  }
}

TEST(StepRunTest, NeededIsAskedForAtTheLayer) {
  for (const StepRecord& step :
       RunDelayed(Variant::kNeeded, milliseconds(1), milliseconds(0)).steps) {
    EXPECT_GE(step.tables[0].asked - step.begin, milliseconds(2));
    EXPECT_GE(step.tables[0].stall, milliseconds(1));
  }
}

// ---------------------------------------------------------------- what is said

Measurement SmallMeasurement() {
  Measurement measurement;
  measurement.shape = SmallShape();
  measurement.shape.goal = 0.01;
  measurement.table_layers = {1, 3};
  for (const Variant variant :
       {Variant::kNone, Variant::kLocal, Variant::kNeeded, Variant::kAhead}) {
    const Clock::duration stall = variant == Variant::kNeeded ? milliseconds(1) : milliseconds(0);
    StepRecord step;
    step.begin = Clock::time_point(milliseconds(50));
    step.end = step.begin + milliseconds(2) + stall;
    const Clock::time_point wanted = step.begin + microseconds(400);
    if (variant != Variant::kNone) {
      step.tables = {{step.begin, wanted, wanted + stall, stall, false},
                     {step.begin, wanted + stall, wanted, {}, false}};
    }
    measurement.runs[variant] = {{step, step}, {step}};
  }
  return measurement;
}

TEST(ReportTest, HasTheFieldsOfTheContract) {
  const nlohmann::json report = ReportOf(SmallMeasurement());
  EXPECT_EQ(report["shape"], "small");
  EXPECT_EQ(report["goal"], 0.01);
  EXPECT_EQ(report["goal_met"], true);
  EXPECT_EQ(report["overhead_vs_local"], 0.0);
  EXPECT_EQ(report["stall_us_p99"], (nlohmann::json{{"1", 0.0}, {"3", 0.0}}));
  EXPECT_EQ(report["needed"]["stall_us_p50"], (nlohmann::json{{"1", 1000.0}, {"3", 0.0}}));
  EXPECT_EQ(report["needed"]["overhead_vs_local"], 0.5);
  EXPECT_EQ(report["step_ms"]["none"], 2.0);
  EXPECT_EQ(report["failed"], 0);
}

TEST(SvgTest, DrawsStallsWhereThereAreSome) {
  const std::string stalled = DrawTimeline(SmallMeasurement());
  EXPECT_THAT(stalled, HasSubstr("stall 1.00 ms"));
  EXPECT_THAT(stalled, testing::StartsWith("<svg "));
  EXPECT_THAT(stalled, testing::EndsWith("</svg>\n"));
  EXPECT_EQ(stalled.find("nan"), std::string::npos);
}

// ---------------------------------------------------------------- link

TEST(LinkOptionsTest, Parse) {
  ASSERT_OK_AND_ASSIGN(const LinkOptions options, LinkOptions::Parse("delay=200us,loss=0.1%"));
  EXPECT_EQ(options.delay, absl::Microseconds(200));
  EXPECT_DOUBLE_EQ(options.loss, 0.001);
  for (const char* const wrong : {"delay=fast", "loss=0.1", "loss=100%", "rate=3", "delay=-1us"}) {
    EXPECT_THAT(LinkOptions::Parse(wrong).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, wrong));
  }
}

class Pipes {
 public:
  Pipes() {
    for (auto* const ends : {in_, out_}) EXPECT_EQ(pipe2(ends, O_NONBLOCK), 0);
  }
  ~Pipes() {
    for (auto* const ends : {in_, out_}) {
      close(ends[0]);
      close(ends[1]);
    }
  }
  int in() const { return in_[0]; }
  int out() const { return out_[1]; }
  void Put(char byte) { EXPECT_EQ(write(in_[1], &byte, 1), 1); }
  bool Got() {
    char byte;
    return read(out_[0], &byte, 1) == 1;
  }

 private:
  int in_[2];
  int out_[2];
};

TEST(LinkForwarderTest, HoldsPacketsForTheDelay) {
  Pipes pipes;
  LinkForwarder forwarder(pipes.in(), pipes.out());
  pipes.Put('x');
  const Clock::time_point start = Clock::now();
  bool got = false;
  while (!got && Clock::now() < start + std::chrono::seconds(10)) {
    forwarder.Carry(milliseconds(20), 0);
    got = pipes.Got();
  }
  EXPECT_TRUE(got);
  EXPECT_GE(Clock::now() - start, milliseconds(20));
}

TEST(LinkForwarderTest, LosesTheShareAskedFor) {
  Pipes pipes;
  LinkForwarder forwarder(pipes.in(), pipes.out());
  int got = 0;
  for (int i = 0; i < 10'000; ++i) {
    pipes.Put('x');
    forwarder.Carry(milliseconds(0), 0.1);
    while (pipes.Got()) ++got;
  }
  EXPECT_NEAR(got, 9000, 200);
}

}  // namespace
}  // namespace engram::bench
