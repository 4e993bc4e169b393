#!/usr/bin/env bash
# Renders the chart to plain manifests, for those who use no helm: deploy/kustomize/base/engram.yaml.
#   deploy/render.sh           writes it
#   deploy/render.sh --check   fails where it is not what the chart gives
set -euo pipefail
cd "$(dirname "$0")/.."
file=deploy/kustomize/base/engram.yaml
tools=$(tests/kubernetes/fetch-helm.sh)
rendered=$(mktemp)
trap 'rm -f "$rendered"' EXIT
{
  echo "# Rendered by deploy/render.sh from deploy/helm/engram, with its own values. Not to be edited."
  # Namespaces are kustomize's business.
  "$tools/helm" template engram deploy/helm/engram --kube-version 1.31.0 | grep -v '^  namespace: '
} >"$rendered"
if [ "${1:-}" = --check ]; then
  diff -u "$file" "$rendered" || { echo "error: run deploy/render.sh" >&2; exit 1; }
else
  cp "$rendered" "$file"
fi
