#include "tests/bench/overlap/overlap.h"

#include <iostream>
#include <memory>

#include "absl/strings/str_cat.h"
#include "proto/base/file.h"
#include "proto/base/status_macros.h"
#include "storage/checkpoint.h"
#include "storage/sidecar.h"
#include "storage/table.h"
#include "tests/bench/overlap/fleet.h"
#include "tests/bench/overlap/link.h"
#include "tests/bench/overlap/measurement.h"
#include "tests/bench/overlap/report.h"
#include "tests/bench/overlap/svg.h"
#include "tests/bench/peer_tables.h"

namespace engram::bench {
namespace {

constexpr double kRowRateGoal = 2e6;
constexpr absl::Duration kRowRateTime = absl::Seconds(2);
constexpr uint64_t kColumns = 24;  // of V4.1-Flash

absl::Status Validate(const OverlapOptions& options) {
  if (!options.servers.empty() && options.checkpoint.empty()) {
    return absl::InvalidArgumentError(
        "--servers needs --checkpoint, their table's, for the local table");
  }
  if (!options.servers.empty() && !options.link.empty()) {
    return absl::InvalidArgumentError("--link starts its own servers: give no --servers");
  }
  if (options.custom.has_value() && !options.shapes.empty()) {
    return absl::InvalidArgumentError("--shapes names shapes, --tokens and the like make one");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Shape>> ShapesOf(const OverlapOptions& options) {
  std::vector<Shape> shapes;
  if (options.custom.has_value()) {
    shapes = {*options.custom};
  } else if (options.shapes.empty()) {
    for (const Shape& shape : NamedShapes()) {
      if (options.servers.empty() || shape.replicas == Replicas::kOne) shapes.push_back(shape);
    }
  }
  for (const std::string& name : options.shapes) {
    ASSIGN_OR_RETURN(shapes.emplace_back(), FindShape(name));
  }
  for (Shape& shape : shapes) {
    if (options.steps > 0) shape.steps = options.steps;
    if (options.rounds > 0) shape.rounds = options.rounds;
    RETURN_IF_ERROR(shape.Validate());
  }
  return shapes;
}

// Which threads poll instead of sleeping, and for how long.
nlohmann::json ThreadsReport(const OverlapOptions& options) {
  const int64_t spin_us = absl::ToInt64Microseconds(options.spin);
  nlohmann::json threads = {
      {"worker", "sleeps to absolute layer times (clock_nanosleep) in every variant"},
      {"worker_wait_spin_us", spin_us},
      {"client_io_threads", options.io_threads},
      {"client_io_spin_us", spin_us},
      {"local_table_spin_us", spin_us},
      {"cores", "not pinned"}};
  if (options.servers.empty()) {
    threads["servers"] = "one process of one thread; two for the replica shapes";
    threads["server_spin_us"] = absl::ToInt64Microseconds(options.server_spin);
  } else {
    threads["servers"] = "as they were found";
  }
  if (!options.link.empty()) threads["link_forwarder"] = "one thread, polls without end";
  return threads;
}

absl::Status WritePicture(const std::string& path, const Measurement& measurement) {
  return WriteFileAtomically(path, DrawTimeline(measurement));
}

}  // namespace

absl::StatusOr<nlohmann::json> RunOverlap(const OverlapOptions& options) {
  RETURN_IF_ERROR(Validate(options));
  ASSIGN_OR_RETURN(const std::vector<Shape> shapes, ShapesOf(options));
  ASSIGN_OR_RETURN(const TokenTrace trace, ReadTokenTrace(options.trace));
  nlohmann::json report = {{"shapes", nlohmann::json::array()},
                           {"threads", ThreadsReport(options)},
                           {"trace", options.trace},
                           {"network", options.link.empty() ? "loopback" : options.link}};
  std::unique_ptr<Link> link;
  if (!options.link.empty()) {
    ASSIGN_OR_RETURN(const LinkOptions link_options, LinkOptions::Parse(options.link));
    ASSIGN_OR_RETURN(link, Link::Create(link_options));
    ASSIGN_OR_RETURN(report["link"], link->Measure());
  }
  ASSIGN_OR_RETURN(const ScratchDirectory scratch, ScratchDirectory::Create(""));
  std::string directory = options.checkpoint;
  if (directory.empty()) {
    directory = absl::StrCat(scratch.path(), "/table");
    std::cerr << "writing a table\n";
    RETURN_IF_ERROR(MakePeerTable(directory, options.bucket_floor * kColumns));
  }
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(directory));
  ASSIGN_OR_RETURN(const auto reader, TableReader::Open(checkpoint));
  LoadOptions load;
  load.checkpoint = directory;
  ASSIGN_OR_RETURN(const Table local, LoadTable(load));
  report["table_bytes"] = local.rows->bytes();
  report["row_bytes"] = local.rows->layout().row_bytes();

  Fleet fleet({directory, absl::ToInt64Microseconds(options.server_spin), link.get()});
  const Bench bench{local,
                    *reader,
                    trace,
                    options.servers.empty() ? &fleet : nullptr,
                    options.servers,
                    options.spin,
                    options.io_threads};
  for (const Shape& shape : shapes) {
    std::cerr << "measuring " << shape.name << "\n";
    ASSIGN_OR_RETURN(const Measurement measurement, Measure(bench, shape));
    report["shapes"].push_back(ReportOf(measurement));
    if (!options.svg.empty() && &shape == &shapes.front()) {
      RETURN_IF_ERROR(WritePicture(options.svg, measurement));
    }
  }
  ASSIGN_OR_RETURN(const double rate, MeasureRowRate(bench, kRowRateTime));
  report["rows_per_s_both_layers"] = rate;
  report["rows_per_s_both_layers_goal"] = kRowRateGoal;
  // What a shape that cannot hide its bytes waits for at least.
  const double bytes_per_s = rate * local.rows->layout().row_bytes();
  for (nlohmann::json& shape : report["shapes"]) {
    shape["bytes_over_bandwidth_ms"] = shape["bytes_per_step"].get<double>() / bytes_per_s * 1e3;
  }
  return report;
}

}  // namespace engram::bench
