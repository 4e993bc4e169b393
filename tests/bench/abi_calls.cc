// engram-abi-calls SERVERS ROWS THREADS SECONDS: lookups through the C ABI, one at a time from each
// thread, of the row ids that tests/bench/python_overhead.py draws. Prints a JSON object.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <engram_client.hpp>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

void Check(const engram::client::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "error: %s\n", status.message().c_str());
  std::exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "error: usage: engram-abi-calls SERVERS ROWS THREADS SECONDS\n");
    return 2;
  }
  const size_t rows = std::strtoul(argv[2], nullptr, 10);
  const size_t threads = std::strtoul(argv[3], nullptr, 10);
  const std::chrono::duration<double> time(std::strtod(argv[4], nullptr));
  auto made = engram::client::Client::ConnectJson("{\"servers\": \"" + std::string(argv[1]) +
                                                  "\", \"spin_us\": 100000, \"dedup\": false}");
  if (!made.ok()) Check(made.status());
  engram::client::Client& client = *made;
  const engram_table_info table = *client.Table();
  const uint64_t layer_rows = (*client.Layer(table.layers[0])).rows;
  std::atomic<uint64_t> calls{0};
  const Clock::time_point end = Clock::now() + std::chrono::duration_cast<Clock::duration>(time);
  std::vector<std::thread> running;
  for (size_t thread = 0; thread < threads; ++thread) {
    running.emplace_back([&, thread] {
      std::vector<int64_t> ids(rows);
      for (size_t i = 0; i < rows; ++i) {
        ids[i] = static_cast<int64_t>((i * 7919 + thread * 104729) % layer_rows);
      }
      std::vector<uint8_t> out(rows * table.row_bytes);
      engram::client::Ticket ticket;
      uint64_t own = 0;
      for (; Clock::now() < end; ++own) {
        const engram_rows request{table.layers[0], 0, ids.data(), rows, out.data(), out.size()};
        Check(client.SubmitRows({&request, 1}, ticket));
        Check(ticket.WaitAll());
      }
      calls += own;
    });
  }
  for (std::thread& thread : running) thread.join();
  std::printf("{\"calls_per_s\": %.1f, \"us_per_call\": %.3f}\n",
              static_cast<double>(calls) / time.count(),
              1e6 * time.count() * static_cast<double>(threads) / static_cast<double>(calls));
}
