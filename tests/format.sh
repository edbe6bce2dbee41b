#!/usr/bin/env bash
# Every source is formatted by .clang-format. Other versions than 14 differ in details, so they do not count.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

if ! command -v clang-format-14 >/dev/null; then
  echo "skipped: clang-format-14 is not installed (scripts/setup check)"
  exit 77
fi
find src include tests cmake -name '*.[ch]pp' -print0 | xargs -0 -r clang-format-14 --dry-run -Werror
