// engram-demo-worker: a small language model at work whose Engram tables are on memory servers. It
// writes a text and reads another, with rows fetched ahead and as needed; every row and every logit
// is compared with those by the checkpoint's own rows. Prints what happened and, as the last line,
// the figures as one JSON object. Exits 1 when a row or a logit differed or a lookup failed.
#include <CLI/CLI.hpp>
#include <cmath>
#include <cstring>
#include <future>
#include <iostream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/metrics_exporter.h"
#include "deploy/demo/report.h"
#include "deploy/demo/timed_memory.h"
#include "deploy/model/text_model.h"
#include "proto/base/file.h"
#include "proto/base/status_macros.h"

namespace engram::demo {
namespace {

using model::Decoder;
using model::kWindow;
using model::LocalRows;
using model::Memory;

constexpr char kPrompt[] = "And the LORD said unto";
constexpr model::GenerateOptions kWriting = {.bytes = 400, .temperature = 0.5, .seed = 4};
constexpr uint64_t kMostBytes = 1 << 20;  // read: their logits are kept

struct Options {
  std::vector<std::string> servers;
  std::string model, twin, text;
  uint64_t bytes = kMostBytes;
  std::string metrics;  // empty: nowhere
};

bool SameBits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

// The logits of a text, window by window.
using Windows = std::vector<std::vector<float>>;

model::EachWindow KeepIn(Windows& windows) {
  return [&windows](const model::WindowRead& window) {
    windows.emplace_back(window.logits.begin(), window.logits.end());
    return absl::OkStatus();
  };
}

// Counts positions of `window` that are not those of `kept`, one by one.
void Compare(const model::WindowRead& window, const Windows& kept, Measured& measured) {
  const size_t index = window.begin / kWindow, vocab = window.logits.size() / kWindow;
  for (size_t at = 0; at < window.logits.size(); at += vocab) {
    const bool same =
        index < kept.size() && kept[index].size() == window.logits.size() &&
        SameBits(window.logits.subspan(at, vocab), std::span(kept[index]).subspan(at, vocab));
    ++measured.logits_compared;
    measured.logits_differ += same ? 0 : 1;
  }
}

// The text that was written, with what is needed to hold it against another one.
struct Written {
  std::string text;
  std::vector<float> logits;  // of the byte after the last
};

absl::StatusOr<Written> Write(const Decoder& decoder, Memory& memory) {
  Written written;
  ASSIGN_OR_RETURN(written.logits, Generate(decoder, &memory, kPrompt, kWriting,
                                            [&](char byte) { written.text.push_back(byte); }));
  return written;
}

// Perplexity of a text.
absl::StatusOr<double> Perplexity(const Decoder& decoder, Memory* memory, absl::string_view text,
                                  const model::EachWindow& each = nullptr) {
  ASSIGN_OR_RETURN(const model::Reading reading, Read(decoder, memory, text, each));
  return std::exp(reading.nats);
}

absl::StatusOr<double> TwinPerplexity(const std::string& directory, absl::string_view text) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Decoder> twin, Decoder::Open(directory, nullptr));
  return Perplexity(*twin, nullptr, text);
}

absl::StatusOr<double> ZeroedPerplexity(const Decoder& decoder, const std::string& directory,
                                        absl::string_view text) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Memory> zeros, OpenMemory(directory, LocalRows::kZeros));
  return Perplexity(decoder, zeros.get(), text);
}

// What a model writes need not be text.
std::string Printable(std::string text) {
  for (char& byte : text) {
    if (byte != '\n' && (byte < 0x20 || byte > 0x7e)) byte = '?';
  }
  return text;
}

// Writes with rows of the servers, ahead and as needed, and once with the checkpoint's own.
absl::Status MeasureWriting(const Decoder& decoder, TimedMemory& remote, Memory& local,
                            Measured& measured) {
  remote.Begin(Fetch::kAhead);
  ASSIGN_OR_RETURN(const Written ahead, Write(decoder, remote));
  measured.decode.ahead = remote.figures();
  remote.Begin(Fetch::kNeeded);
  ASSIGN_OR_RETURN(const Written needed, Write(decoder, remote));
  measured.decode.needed = remote.figures();
  ASSIGN_OR_RETURN(const Written own, Write(decoder, local));
  for (const Written* written : {&ahead, &needed}) {
    ++measured.logits_compared;
    const bool same = written->text == own.text && SameBits(written->logits, own.logits);
    measured.logits_differ += same ? 0 : 1;
  }
  std::cout << "It writes, its tables on the servers:\n"
            << kPrompt << Printable(ahead.text) << "\n\n";
  return absl::OkStatus();
}

absl::Status MeasureReading(const Decoder& decoder, TimedMemory& remote, const Options& options,
                            absl::string_view text, Measured& measured) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Memory> local, model::OpenMemory(options.model));
  Windows ahead, needed;
  remote.Begin(Fetch::kAhead);
  ASSIGN_OR_RETURN(measured.ppl_memory, Perplexity(decoder, &remote, text, KeepIn(ahead)));
  measured.prefill.ahead = remote.figures();
  remote.Begin(Fetch::kNeeded);
  RETURN_IF_ERROR(Perplexity(decoder, &remote, text, KeepIn(needed)).status());
  measured.prefill.needed = remote.figures();
  // What nobody waits for runs side by side.
  auto twin = std::async(std::launch::async, TwinPerplexity, options.twin, text);
  auto zeroed =
      std::async(std::launch::async, ZeroedPerplexity, std::cref(decoder), options.model, text);
  const absl::Status own = Perplexity(decoder, local.get(), text, [&](const auto& window) {
                             Compare(window, ahead, measured);
                             Compare(window, needed, measured);
                             return absl::OkStatus();
                           }).status();
  absl::StatusOr<double> without = twin.get(), zeros = zeroed.get();
  RETURN_IF_ERROR(own);
  ASSIGN_OR_RETURN(measured.ppl_without, std::move(without));
  ASSIGN_OR_RETURN(measured.ppl_zeroed, std::move(zeros));
  measured.bytes_read = text.size() / kWindow * kWindow;
  return absl::OkStatus();
}

// Nothing wrong.
absl::StatusOr<bool> Run(const Options& options) {
  ASSIGN_OR_RETURN(std::string text, ReadFile(options.text, kMostBytes));
  text.resize(std::min<size_t>(text.size(), options.bytes));
  ASSIGN_OR_RETURN(const std::unique_ptr<TimedMemory> remote,
                   TimedMemory::Connect({.servers = options.servers, .spin = absl::Milliseconds(1)},
                                        options.model));
  std::unique_ptr<MetricsServer> metrics;
  if (!options.metrics.empty()) {
    ASSIGN_OR_RETURN(metrics, ServeMetrics(remote->client(), options.metrics));
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<Decoder> decoder,
                   Decoder::Open(options.model, remote.get()));
  ASSIGN_OR_RETURN(const std::unique_ptr<Memory> local, model::OpenMemory(options.model));
  Measured measured;
  measured.row_bytes = remote->layout().row_bytes();
  RETURN_IF_ERROR(MeasureWriting(*decoder, *remote, *local, measured));
  RETURN_IF_ERROR(MeasureReading(*decoder, *remote, options, text, measured));
  const nlohmann::json figures = Figures(measured);
  std::cout << Summary(measured, figures) << figures.dump() << std::endl;
  const auto wrong_rows = figures["wrong_rows"].get<uint64_t>();
  if (wrong_rows > 0) std::cerr << "error: " << wrong_rows << " rows are not the checkpoint's\n";
  if (measured.logits_differ > 0) {
    std::cerr << "error: logits of " << measured.logits_differ
              << " positions are not those by the checkpoint's own rows\n";
  }
  return wrong_rows == 0 && measured.logits_differ == 0;
}

int Main(int argc, char** argv) {
  CLI::App app("A small language model at work, its tables on memory servers: checks every row.",
               "engram-demo-worker");
  Options options;
  app.add_option("--servers", options.servers, "any of the servers, with commas")
      ->delimiter(',')
      ->required();
  app.add_option("--model", options.model, "directory of the checkpoint; its tables are served")
      ->required();
  app.add_option("--twin", options.twin, "directory of a model without tables, trained alike")
      ->required();
  app.add_option("--text", options.text, "text that neither was trained on")->required();
  app.add_option("--bytes", options.bytes, "how much of it to read")
      ->check(CLI::Range(uint64_t{kWindow}, kMostBytes));
  app.add_option("--metrics", options.metrics, "host:port of the client's metrics");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    std::cerr << "error: " << error.what() << "\n";
    return 2;
  }
  const absl::StatusOr<bool> right = Run(options);
  if (!right.ok()) std::cerr << "error: " << right.status().message() << "\n";
  return right.ok() && *right ? 0 : 1;
}

}  // namespace
}  // namespace engram::demo

int main(int argc, char** argv) { return engram::demo::Main(argc, argv); }
