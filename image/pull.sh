#!/bin/bash
# Brings the Dockerfile's base, as the image registry has it now, into STORE for build.sh, and prints its ID.
# Usage: pull.sh STORE, with SOURCE_DATE_EPOCH.
set -euo pipefail
cd "$(dirname "$0")/.."
store=$1
. image/store.sh

buildah pull --quiet --policy always "$from"
