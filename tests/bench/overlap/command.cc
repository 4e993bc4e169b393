#include "tests/bench/overlap/command.h"

#include "proto/base/status_macros.h"

namespace engram::bench {
namespace {

// Longer than a decode step: while steps go on, nobody has to be woken.
constexpr int64_t kDefaultSpinUs = 100'000;

}  // namespace

OverlapFlags::OverlapFlags(CLI::App* command)
    : spin_us_(kDefaultSpinUs), server_spin_us_(kDefaultSpinUs) {
  options_.trace = "deploy/data/kjv.tok";
  command->add_option("--shapes", options_.shapes, "of the named ones, with commas; default: all")
      ->delimiter(',');
  command->add_option("--steps", options_.steps, "of one run; 0: the shape's")
      ->capture_default_str();
  command->add_option("--rounds", options_.rounds, "runs of every variant; 0: the shape's")
      ->capture_default_str();
  command
      ->add_option("--tokens", tokens_,
                   "a step of your own: tokens of each sequence (with --step-ms or --layers-ms)")
      ->capture_default_str();
  command->add_option("--sequences", sequences_, "of a step of your own")->capture_default_str();
  command->add_option("--step-ms", step_ms_, "40 equal layers that take so long together");
  command->add_option("--layers-ms", layers_ms_, "how long each layer takes, with commas")
      ->delimiter(',');
  command->add_option("--ahead-ms", ahead_ms_, "ids are known so long before the step")
      ->capture_default_str();
  command
      ->add_option("--servers", options_.servers,
                   "running servers, with commas, instead of its own")
      ->delimiter(',');
  command->add_option("--checkpoint", options_.checkpoint,
                      "of the table; default: a synthetic one");
  command
      ->add_option("--bucket-floor", options_.bucket_floor, "of the synthetic table (80000: 1 GB)")
      ->check(CLI::Range(uint64_t{100}, uint64_t{1} << 24))
      ->capture_default_str();
  command->add_option("--trace", options_.trace, "file of token ids")->capture_default_str();
  command->add_option("--link", options_.link,
                      "delay=200us,loss=0.1%: servers behind such a link, each way (needs root)");
  command->add_option("--svg", options_.svg, "writes a picture of the first shape's steps");
  command
      ->add_option("--spin-us", spin_us_,
                   "how long the client's threads and the local table's poll before they sleep")
      ->check(CLI::Range(int64_t{0}, int64_t{1'000'000}))
      ->capture_default_str();
  command->add_option("--server-spin-us", server_spin_us_, "the same of the servers")
      ->check(CLI::Range(int64_t{0}, int64_t{1'000'000}))
      ->capture_default_str();
  command->add_option("--io-threads", options_.io_threads, "the client's threads")
      ->capture_default_str();
}

absl::StatusOr<std::optional<Shape>> OverlapFlags::CustomShape() const {
  const bool timed = step_ms_ > 0 || !layers_ms_.empty();
  if (tokens_ == 0 && !timed) return std::nullopt;
  if (tokens_ == 0 || (step_ms_ > 0) == !layers_ms_.empty()) {
    return absl::InvalidArgumentError(
        "a step of your own needs --tokens and one of --step-ms and --layers-ms");
  }
  Shape shape;
  shape.name = "custom";
  shape.sequences = sequences_;
  shape.tokens_per_sequence = tokens_;
  shape.layers = EqualLayers(step_ms_, kModelLayers);
  if (!layers_ms_.empty()) shape.layers.clear();
  for (const double ms : layers_ms_) shape.layers.push_back(EqualLayers(ms, 1)[0]);
  shape.known_ahead = EqualLayers(ahead_ms_, 1)[0];
  shape.steps = 40;
  shape.rounds = 5;
  return shape;
}

absl::StatusOr<OverlapOptions> OverlapFlags::Options() const {
  OverlapOptions options = options_;
  ASSIGN_OR_RETURN(options.custom, CustomShape());
  options.spin = absl::Microseconds(spin_us_);
  options.server_spin = absl::Microseconds(server_spin_us_);
  return options;
}

}  // namespace engram::bench
