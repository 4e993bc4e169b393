#!/usr/bin/env bash
# What Kubernetes and two operators take, as npm packages into .tools/; prints where they are.
set -euo pipefail
cd "$(dirname "$0")/../.."
packages=(
  kubernetes-models@5.1.0 @kubernetes-models/prometheus-operator@6.0.0
  @kubernetes-models/cert-manager@4.4.4 @monokle/validation@0.33.0 typescript@5.9.3
)
tools=.tools/schemas-$(printf '%s\n' "${packages[@]}" | sha256sum | cut -c 1-12)
if [ ! -d "$tools" ]; then
  mkdir -p .tools
  scratch=$(mktemp -d .tools/schemas-new-XXXXXX)
  trap 'rm -rf "$scratch"' EXIT
  echo '{"private": true, "type": "module"}' >"$scratch/package.json"
  npm install --prefix "$scratch" --no-save --no-audit --no-fund --silent "${packages[@]}" >&2
  mv -T "$scratch" "$tools" || [ -d "$tools" ]  # somebody else was first
fi
echo "$PWD/$tools"
