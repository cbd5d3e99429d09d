#!/bin/bash
# Builds OUT/image.tar (for docker load, ctr image import, kind load), OUT/image.json and OUT/sbom.cdx.json with buildah,
# which needs neither a daemon nor a network of its own.
# Usage: build.sh OUT STORE BASE TOOLS, with VERSION, REVISION and SOURCE_DATE_EPOCH. STORE keeps layers for the next
# build, BASE is a tar archive for the Dockerfile's FROM (or `pull`: pull.sh has put it there), TOOLS a Python environment
# with the SBOM's tools.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$1 store=$2 base=$3 tools=$4
tag=hostdev-operator:$VERSION
. image/store.sh

if [ "$base" != pull ]; then
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$base" / > /dev/null
    buildah config --cmd /bin/bash "$container"
    buildah commit --quiet --rm --timestamp 0 "$container" "$from" > /dev/null
fi
# How this machine reaches its Python package index; seen by pip during the build alone.
secrets=()
[ ! -e /etc/pip.conf ] || secrets+=(--secret id=pip.conf,src=/etc/pip.conf)
[ -z "${PIP_CERT:-}" ] || secrets+=(--secret "id=ca,src=$PIP_CERT")
build() {
    buildah build --pull-never --layers --timestamp "$SOURCE_DATE_EPOCH" "${secrets[@]}" \
        --build-arg VERSION="$VERSION" --build-arg REVISION="$REVISION" "$@" .
}
build --target build --tag hostdev-operator-build # tagged, so that its layers are there next time
build --tag "$tag" --iidfile "$out/id"
buildah rmi --prune > /dev/null
buildah push --quiet "$tag" "docker-archive:$out/image.tar:$tag"

container=$(buildah from --pull-never "$tag")
trap unmount EXIT
root=$(buildah mount "$container")
stamp=$(date --utc --date "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
id=$(sed s/sha256:// "$out/id")
"$tools/bin/debsbom" generate -t cdx --cdx-schema-version 1.6 --timestamp "$stamp" --root "$root" --out "$out/debian"
# Asks an interpreter for its path: this one answers for the image's, which cannot be run outside of it.
printf '#!/bin/sh\necho '"'"'["%s"]'"'"'\n' "$root/opt/hostdev-operator/lib/python3.13/site-packages" > "$out/python"
chmod +x "$out/python"
"$tools/bin/cyclonedx-py" environment --output-reproducible --spec-version 1.6 \
    --pyproject pyproject.toml -o "$out/python.cdx.json" "$out/python"
"$tools/bin/debsbom" merge -t cdx --cdx-schema-version 1.6 --timestamp "$stamp" --distro-name hostdev-operator \
    --distro-version "$VERSION" --cdx-serialnumber "${id:0:8}-${id:8:4}-4${id:13:3}-8${id:17:3}-${id:20:12}" \
    --out "$out/sbom" "$out/debian.cdx.json" "$out/python.cdx.json"
size=$(du -sxb "$root" | cut -f1)
buildah umount "$container" > /dev/null
buildah rm "$container" > /dev/null
rm "$out/debian.cdx.json" "$out/python.cdx.json" "$out/python" "$out/id"
printf '{"name": "%s", "id": "sha256:%s", "bytes": %d, "revision": "%s", "sourceDateEpoch": %d}\n' \
    "$tag" "$id" "$size" "$REVISION" "$SOURCE_DATE_EPOCH" > "$out/image.json"
