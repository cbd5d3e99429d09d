# Read by build.sh and pull.sh: the Dockerfile's base, and buildah with the layers in the folder $store of the time
# $SOURCE_DATE_EPOCH.
from=debian:trixie-slim
# an overlay cannot be made on an overlay, as in a CI job's container
driver=overlay
[ "$(stat -f -c %T "$(dirname "$store")")" != overlayfs ] || driver=vfs
buildah() { command buildah --root "$store" --runroot "$store-run" --storage-driver "${STORAGE_DRIVER:-$driver}" "$@"; }
# what a run that was cut off has left mounted, the deepest first
unmount() {
    { grep -oE " $store(-run)?/[^ ]+ " /proc/self/mountinfo || true; } | sort -r | while read -r point; do
        umount "$point" || true
    done
}
export BUILDAH_ISOLATION=chroot

# buildah takes layers from before with the times that they have: those of another time are of no use.
unmount
[ "$(cat "$store.epoch" 2> /dev/null)" = "$SOURCE_DATE_EPOCH" ] || rm -rf "$store" "$store-run"
mkdir -p "$store"
echo "$SOURCE_DATE_EPOCH" > "$store.epoch"
