#include "tests/bench/overlap/svg.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace engram::bench {
namespace {

constexpr double kWidth = 1560;
constexpr double kLabelWidth = 130;
constexpr double kTop = 84;
constexpr double kLane = 26;
constexpr double kGap = 58;  // between variants: room for the axis

constexpr char kLayer[] = "#cfd8e3";
constexpr char kLayerOther[] = "#b4c1d1";
constexpr char kTableLayer[] = "#44617f";
constexpr char kOnTheWay[] = "#e9a23b";
constexpr char kInPlace[] = "#5fa55a";
constexpr char kStall[] = "#d62728";

double Milliseconds(Clock::duration time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

std::string Text(double x, double y, absl::string_view anchor, absl::string_view text,
                 absl::string_view more = "") {
  return absl::StrFormat("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" %s>%s</text>\n", x, y,
                         anchor, more, text);
}

// A part of the time axis and where it lies on the page.
struct View {
  double from_ms;
  double to_ms;
  double x;
  double width;

  double At(double ms) const {
    return x + (std::clamp(ms, from_ms, to_ms) - from_ms) / (to_ms - from_ms) * width;
  }
  bool Shows(double ms) const { return ms >= from_ms && ms <= to_ms; }

  std::string Bar(double begin, double end, double y, double height,
                  absl::string_view color) const {
    if (end < from_ms || begin > to_ms) return "";
    const double at = At(begin);
    return absl::StrFormat(
        "<rect x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\" fill=\"%s\"/>\n", at, y,
        std::max(At(end) - at, 0.6), height, color);
  }
  std::string Mark(double ms, double y, double height) const {
    if (!Shows(ms)) return "";
    return absl::StrFormat(
        "<line x1=\"%.2f\" y1=\"%.1f\" x2=\"%.2f\" y2=\"%.1f\" stroke=\"#111\" "
        "stroke-width=\"1.5\"/>\n",
        At(ms), y, At(ms), y + height);
  }
  std::string Axis(double y) const {
    const double raw = (to_ms - from_ms) / 8;
    const double power = std::pow(10, std::floor(std::log10(raw)));
    const double step = power * (raw / power > 5 ? 10 : raw / power > 2 ? 5 : 2);
    std::string out =
        absl::StrFormat("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#888\"/>\n",
                        x, y, x + width, y);
    for (double tick = std::ceil(from_ms / step) * step; tick <= to_ms + step / 100; tick += step) {
      absl::StrAppend(&out, Mark(tick, y, 5),
                      Text(At(tick), y + 18, "middle", absl::StrFormat("%g", tick + 0.0)));
    }
    return out;
  }
};

// A step's times in milliseconds since its begin.
class StepPicture {
 public:
  StepPicture(const Measurement& measurement, const StepRecord& step)
      : measurement_(measurement), step_(step) {}

  double Since(Clock::time_point time) const { return Milliseconds(time - step_.begin); }
  double end() const { return Since(step_.end); }
  double first_asked() const {
    double first = 0;
    for (const TableRecord& table : step_.tables) first = std::min(first, Since(table.asked));
    return first;
  }
  double height() const { return kLane * static_cast<double>(1 + step_.tables.size()); }

  std::string Draw(const View& view, double y) const {
    std::string out = DrawLayers(view, y);
    for (const TableRecord& table : step_.tables) {
      y += kLane;
      absl::StrAppend(&out, DrawTable(view, table, y));
    }
    return out;
  }

  std::string Labels(absl::string_view what, double y) const {
    std::string out = Text(14, y - 8, "start", what, "font-weight=\"bold\" font-size=\"15\"");
    absl::StrAppend(&out, Text(kLabelWidth - 8, y + 16, "end", "model layers"));
    for (const uint32_t layer : measurement_.table_layers) {
      y += kLane;
      absl::StrAppend(&out,
                      Text(kLabelWidth - 8, y + 16, "end", absl::StrCat("rows of layer ", layer)));
    }
    return out;
  }

 private:
  // Layers follow each other; at a table's they stand still first.
  std::string DrawLayers(const View& view, double y) const {
    std::string out;
    double at = 0;
    const std::vector<uint32_t>& tables = measurement_.table_layers;
    for (size_t layer = 0; layer < measurement_.shape.layers.size(); ++layer) {
      const auto table = std::find(tables.begin(), tables.end(), layer);
      const bool reads = table != tables.end();
      if (reads) {
        const double stall =
            Milliseconds(step_.tables[static_cast<size_t>(table - tables.begin())].stall);
        if (stall > 0) absl::StrAppend(&out, view.Bar(at, at + stall, y, kLane - 4, kStall));
        at += stall;
      }
      const double length = Milliseconds(measurement_.shape.layers[layer]);
      const char* const color = reads ? kTableLayer : layer % 2 == 0 ? kLayer : kLayerOther;
      absl::StrAppend(&out, view.Bar(at, at + length, y, kLane - 4, color));
      if (view.At(at + length) - view.At(at) > 16 && view.Shows(at + length / 2)) {
        absl::StrAppend(&out, Text(view.At(at + length / 2), y + 15, "middle", absl::StrCat(layer),
                                   reads ? "fill=\"#fff\"" : "fill=\"#345\""));
      }
      at += length;
    }
    return out;
  }

  std::string DrawTable(const View& view, const TableRecord& table, double y) const {
    const double asked = Since(table.asked);
    const double arrived = Since(table.arrived);
    const double wanted = Since(table.wanted);
    const double height = kLane - 10;
    std::string out = view.Bar(asked, std::min(arrived, wanted), y + 3, height, kOnTheWay);
    if (arrived < wanted) {
      absl::StrAppend(&out, view.Bar(arrived, wanted, y + 3, height, kInPlace));
    } else {
      absl::StrAppend(&out, view.Bar(wanted, arrived, y + 3, height, kStall));
    }
    absl::StrAppend(&out, view.Mark(asked, y, kLane - 4), view.Mark(wanted, y, kLane - 4));
    const double last = std::max(wanted, arrived);
    if (!view.Shows(last) || !view.Shows(asked)) return out;
    const std::string text = absl::StrFormat("in place %.2f, wanted %.2f, stall %.2f ms", arrived,
                                             wanted, Milliseconds(table.stall));
    const bool fits = view.At(last) + 240 < view.x + view.width;
    const bool before = view.At(asked) - 240 > view.x;
    if (fits) return absl::StrCat(out, Text(view.At(last) + 6, y + 16, "start", text));
    if (before) return absl::StrCat(out, Text(view.At(asked) - 6, y + 16, "end", text));
    return out;
  }

  const Measurement& measurement_;
  const StepRecord& step_;
};

const StepRecord& MedianStep(const Measurement& measurement, Variant variant) {
  std::vector<const StepRecord*> steps;
  for (const auto& run : measurement.runs.at(variant)) {
    for (const StepRecord& step : run) steps.push_back(&step);
  }
  const auto middle = steps.begin() + static_cast<ptrdiff_t>(steps.size() / 2);
  std::nth_element(steps.begin(), middle, steps.end(),
                   [](const auto* a, const auto* b) { return a->length() < b->length(); });
  return **middle;
}

std::string Legend(double y) {
  std::string out;
  double x = kLabelWidth;
  const std::pair<const char*, const char*> entries[] = {
      {kLayer, "layer computes"},
      {kTableLayer, "layer that reads a table"},
      {kOnTheWay, "rows asked for, on their way"},
      {kInPlace, "rows in place, layer not there yet"},
      {kStall, "stall: the layer stands still for rows"}};
  for (const auto& [color, what] : entries) {
    absl::StrAppendFormat(&out,
                          "<rect x=\"%.1f\" y=\"%.1f\" width=\"16\" height=\"12\" fill=\"%s\"/>\n",
                          x, y, color);
    absl::StrAppend(&out, Text(x + 22, y + 11, "start", what));
    x += 250;
  }
  return out;
}

const char* Caption(Variant variant) {
  switch (variant) {
    case Variant::kLocal:
      return "local table in this process";
    case Variant::kAhead:
      return "servers, fetched ahead: asked for when the ids are known";
    case Variant::kNeeded:
      return "servers, fetched when needed: asked for when the model is at the layer";
    case Variant::kNone:
      break;
  }
  return "";
}

}  // namespace

std::string DrawTimeline(const Measurement& measurement) {
  std::vector<std::pair<Variant, StepPicture>> steps;
  double from = 0;
  double to = 0;
  for (const Variant variant : {Variant::kLocal, Variant::kAhead, Variant::kNeeded}) {
    if (measurement.runs.count(variant) == 0) continue;
    steps.emplace_back(variant, StepPicture(measurement, MedianStep(measurement, variant)));
    from = std::min(from, steps.back().second.first_asked());
    to = std::max(to, steps.back().second.end());
  }
  const double begin_of_first = Milliseconds(StepTimeline({}, measurement.shape.layers)
                                                 .LayerBegins(measurement.table_layers.front())
                                                 .time_since_epoch());
  // Early enough to see the first table's layer, late enough to see what it may wait for.
  const double zoom_to = std::min(to, std::max(5 * begin_of_first, to / 10));
  const View whole{from, to, kLabelWidth, 860};
  const View zoom{std::max(from, -zoom_to / 4), zoom_to, kLabelWidth + 900, 510};

  std::string body;
  double y = kTop + 24;
  for (const auto& [variant, step] : steps) {
    absl::StrAppend(&body, step.Labels(Caption(variant), y), step.Draw(whole, y),
                    step.Draw(zoom, y));
    y += step.height();
    absl::StrAppend(&body, whole.Axis(y + 2), zoom.Axis(y + 2));
    y += kGap;
  }
  absl::StrAppend(&body, Legend(y - 12));
  const std::string title =
      absl::StrFormat("%s: %u tokens, %d rows and %.2f MB a step, median step of each variant",
                      measurement.shape.name, measurement.shape.tokens(), measurement.rows_per_step,
                      static_cast<double>(measurement.bytes_per_step) * 1e-6);
  return absl::StrCat(
      absl::StrFormat("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" "
                      "font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n"
                      "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
                      kWidth, y + 24),
      Text(14, 28, "start", title, "font-size=\"18\" font-weight=\"bold\""),
      Text(whole.x, 56, "start", "whole step, ms since layer 0 began"),
      Text(zoom.x, 56, "start", "enlarged: until past the first table's layer, ms"), body,
      "</svg>\n");
}

}  // namespace engram::bench
