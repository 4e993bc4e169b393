#include "service/config_file.h"

#include <algorithm>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"

namespace engram {
namespace {

// Of a line, or why there is none.
struct Value {
  std::string text;
  std::string error;
};

bool IsFlag(const CLI::Option& option) { return option.get_expected_max() == 0; }

// Whether an option is one that a file may set.
bool IsKey(const CLI::Option* option) {
  return option != nullptr && option->get_configurable() && !option->get_lnames().empty();
}

bool IsBare(absl::string_view text) {
  double number = 0;
  return text == "true" || text == "false" || absl::SimpleAtod(text, &number);
}

// "..." with \" \\ \n \t \r as TOML has them, '...' as it is; `rest` gets what is behind it.
Value ReadText(absl::string_view line, absl::string_view& rest) {
  Value value;
  const char quote = line.front();
  for (size_t i = 1; i < line.size(); ++i) {
    if (line[i] == quote) {
      rest = line.substr(i + 1);
      return value;
    }
    if (quote == '"' && line[i] == '\\') {
      constexpr absl::string_view kEscapes = "\"\\ntr", kMeant = "\"\\\n\t\r";
      const size_t at = i + 1 < line.size() ? kEscapes.find(line[i + 1]) : absl::string_view::npos;
      if (at == absl::string_view::npos) return {"", "has an escape that is not known"};
      value.text += kMeant[at];
      ++i;
    } else {
      value.text += line[i];
    }
  }
  return {"", "lacks the quote at its end"};
}

Value ReadValue(absl::string_view text) {
  if (text.empty()) return {"", "has no value"};
  absl::string_view rest;
  Value value;
  if (text.front() == '"' || text.front() == '\'') {
    value = ReadText(text, rest);
  } else {
    const size_t comment = std::min(text.find('#'), text.size());
    value.text = std::string(absl::StripAsciiWhitespace(text.substr(0, comment)));
    if (!IsBare(value.text)) {
      return {"", absl::StrCat("is `", value.text, "`, which is no number; a text has quotes")};
    }
  }
  rest = absl::StripLeadingAsciiWhitespace(rest);
  if (value.error.empty() && !rest.empty() && rest.front() != '#') {
    return {"", absl::StrCat("has `", rest, "` behind its value")};
  }
  return value;
}

std::string Quoted(absl::string_view text) {
  return absl::StrCat(
      "\"",
      absl::StrReplaceAll(
          text, {{"\\", "\\\\"}, {"\"", "\\\""}, {"\n", "\\n"}, {"\t", "\\t"}, {"\r", "\\r"}}),
      "\"");
}

class FileOfFlags final : public CLI::Config {
 public:
  FileOfFlags(const CLI::App& app, std::function<void(CLI::App&)> add_flags)
      : app_(app), add_flags_(std::move(add_flags)) {}

  std::vector<CLI::ConfigItem> from_config(std::istream& input) const override {
    const std::string file = app_.get_config_ptr()->as<std::string>();
    std::vector<CLI::ConfigItem> items;
    std::set<std::string> seen;
    std::string line;
    for (int number = 1; std::getline(input, line); ++number) {
      const absl::string_view text = absl::StripAsciiWhitespace(line);
      if (text.empty() || text.front() == '#') continue;
      const auto complain = [&](absl::string_view what) {
        throw CLI::ConfigError(absl::StrCat(file, ":", number, ": ", what),
                               CLI::ExitCodes::ConfigError);
      };
      const size_t equals = text.find('=');
      if (equals == absl::string_view::npos) {
        complain(absl::StrCat("`", text, "` is not key = value"));
      }
      CLI::ConfigItem item;
      item.name = std::string(absl::StripAsciiWhitespace(text.substr(0, equals)));
      if (!IsKey(app_.get_option_no_throw("--" + item.name))) {
        complain(absl::StrCat("key `", item.name, "` is not known"));
      }
      if (!seen.insert(item.name).second) complain(absl::StrCat("`", item.name, "` comes twice"));
      const Value value = ReadValue(absl::StripAsciiWhitespace(text.substr(equals + 1)));
      if (!value.error.empty()) complain(absl::StrCat("`", item.name, "` ", value.error));
      if (const std::string error = Try(item.name, value.text); !error.empty()) {
        complain(absl::StrCat("`", item.name, "` is `", value.text, "`: ", error));
      }
      item.inputs = {value.text};
      items.push_back(std::move(item));
    }
    return items;
  }

  std::string to_config(const CLI::App* app, bool, bool, std::string) const override {
    return ConfigText(*app);
  }

 private:
  // Why the flag refuses a value; empty: it does not.
  std::string Try(const std::string& name, const std::string& value) const {
    CLI::App app;
    add_flags_(app);
    CLI::Option* const option = app.get_option("--" + name);
    if (IsFlag(*option) && value != "true" && value != "false") return "neither true nor false";
    try {
      option->add_result(value);
      option->run_callback();
    } catch (const CLI::ParseError& error) {
      return error.what();
    }
    return "";
  }

  const CLI::App& app_;
  const std::function<void(CLI::App&)> add_flags_;
};

}  // namespace

void AddConfigFile(CLI::App& app, std::function<void(CLI::App&)> add_flags) {
  app.set_config("--config", "",
                 "TOML file of lines flag = value, the flags without dashes; a flag that is given "
                 "goes before it");
  app.allow_config_extras(CLI::config_extras_mode::error);
  app.config_formatter(std::make_shared<FileOfFlags>(app, std::move(add_flags)));
}

std::string ConfigText(const CLI::App& app) {
  std::string text;
  for (const CLI::Option* const option : app.get_options()) {
    if (!IsKey(option)) continue;
    const bool given = option->count() != 0;
    const std::string& type = option->get_type_name();
    std::string value;
    if (IsFlag(*option)) {
      value = given && option->as<bool>() ? "true" : "false";
    } else {
      value = given ? absl::StrJoin(option->results(), ",") : option->get_default_str();
    }
    absl::StrAppend(&text, value.empty() ? "# " : "", option->get_lnames().front(), " = ");
    const bool bare =
        IsFlag(*option) || absl::StartsWith(type, "UINT") || absl::StartsWith(type, "INT");
    absl::StrAppend(&text, bare ? value : Quoted(value), "\n");
  }
  return text;
}

}  // namespace engram
