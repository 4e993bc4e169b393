// A configuration file whose keys are the names of a program's flags.
#ifndef ENGRAM_SERVICE_CONFIG_FILE_H_
#define ENGRAM_SERVICE_CONFIG_FILE_H_

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

namespace engram {

// Adds --config FILE to `app`, whose other flags are there or still to come. The file is TOML of
// one kind of line, a comment apart: key = value, the key a flag's name without dashes, the value
// "a text", 'a text as it is', a number, true or false. Each means what the flag means; a flag on
// the command line goes before it. Refused, with the file's name and the line: what is no such
// line, an unknown key, one that comes twice, and a value that the flag refuses.
//
// `add_flags` gives another app the same flags, with other variables behind them that it keeps
// alive as long as itself is: values are tried on those.
void AddConfigFile(CLI::App& app, std::function<void(CLI::App&)> add_flags);

// What the flags and the file of `app`, which has been parsed, come to, in the form of a file that
// says the same: all keys, those that have no value behind a "# ".
std::string ConfigText(const CLI::App& app);

}  // namespace engram

#endif  // ENGRAM_SERVICE_CONFIG_FILE_H_
