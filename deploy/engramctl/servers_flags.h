// The flags of every command that asks servers.
#ifndef ENGRAM_DEPLOY_ENGRAMCTL_SERVERS_FLAGS_H_
#define ENGRAM_DEPLOY_ENGRAMCTL_SERVERS_FLAGS_H_

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "client/credentials.h"

namespace engram {

struct ServersFlags {
  std::vector<std::string> servers;
  Credentials credentials;
};

inline void AddCredentialFlags(CLI::App* command, Credentials& credentials) {
  constexpr char kGroup[] = "Security";
  command
      ->add_option("--tls-ca", credentials.ca,
                   "PEM file of the authorities that vouch for servers; none: plaintext")
      ->group(kGroup);
  command->add_option("--tls-cert", credentials.certificate, "PEM file of our certificate chain")
      ->group(kGroup);
  command->add_option("--tls-key", credentials.key, "PEM file of its private key")->group(kGroup);
  command
      ->add_option("--tls-server-name", credentials.server_name,
                   "The name in servers' certificates (default: the host of their address)")
      ->group(kGroup);
  command->add_option("--token-file", credentials.token, "File of a token to send")->group(kGroup);
}

inline void AddServersFlags(CLI::App* command, ServersFlags& flags, const char* servers) {
  command->add_option("--servers", flags.servers, servers)
      ->delimiter(',')
      ->allow_extra_args(false)
      ->required();
  AddCredentialFlags(command, flags.credentials);
}

}  // namespace engram

#endif  // ENGRAM_DEPLOY_ENGRAMCTL_SERVERS_FLAGS_H_
