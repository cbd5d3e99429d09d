# The image of agent and controller. `make image` builds it also where no image registry is reachable; where one is,
# `docker build .` does (BuildKit, or buildah). The same base, packages and SOURCE_DATE_EPOCH make the same digest.
#
# libvirt's client library is Debian's, and libvirt-python is compiled in the same release against it, from the source that
# requirements.lock names by its hash: so the two fit, and every Python package stands in one lock. (Debian's
# python3-libvirt would be an older version than the one that the tests run with.)
ARG BASE=debian:trixie-slim

FROM ${BASE} AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev libvirt-dev pkg-config python3-dev python3-venv
WORKDIR /build
# -g0: debugging symbols would carry the name of a temporary folder.
ENV CFLAGS=-g0 PYTHONHASHSEED=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# Both secrets are optional: how this machine reaches its Python package index. Neither ends up in a layer.
COPY requirements.lock image/requirements-build.lock ./
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca,target=/run/ca.pem \
    [ ! -e /run/ca.pem ] || export PIP_CERT=/run/ca.pem; \
    python3 -m venv tools \
    && tools/bin/pip install --require-hashes --only-binary :all: -r requirements-build.lock \
    && tools/bin/pip wheel --require-hashes --no-deps --no-build-isolation --only-binary :all: --no-binary libvirt-python \
       --wheel-dir wheels -r requirements.lock
COPY LICENSE README.md pyproject.toml ./
COPY operator operator
# Some wheels come with debugging symbols: 30 MB of them. Bytecode that is never compared with its source's time, which a reproducible build sets: what does not fit would be
# compiled anew at each start, as the root file system is read-only.
RUN tools/bin/pip wheel --no-deps --no-build-isolation --no-index --wheel-dir wheels . \
    && python3 -m venv --without-pip /opt/hostdev-operator \
    && tools/bin/pip --python /opt/hostdev-operator/bin/python install --no-index --no-compile --find-links wheels hostdev-operator \
    && find /opt/hostdev-operator -name '*.so*' -type f -exec strip --strip-debug {} + \
    && /opt/hostdev-operator/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/hostdev-operator/lib

FROM ${BASE}
# Logs and caches have times and inode numbers in them, so they go.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libvirt0 python3 \
    && PYTHONHASHSEED=0 python3 -m compileall -q -f --invalidation-mode unchecked-hash /usr/lib/python3.13 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/cache/ldconfig /var/log/* /tmp/* \
       /var/lib/dpkg/*-old
# kopf asks for the name of whoever it runs as: 65532 has one, and LOGNAME is for any other user that a pod may have.
RUN echo hostdev-operator:x:65532:65532::/nonexistent:/usr/sbin/nologin >> /etc/passwd \
    && echo hostdev-operator:x:65532: >> /etc/group
ENV LOGNAME=hostdev-operator
COPY --from=build /opt/hostdev-operator /opt/hostdev-operator
ARG VERSION=0
ARG REVISION=
LABEL org.opencontainers.image.title="hostdev-operator" \
      org.opencontainers.image.description="Gives host PCI devices to libvirt guests declaratively: agent and controller" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="debian:trixie-slim"
# Nobody: that is all that the controller needs, which takes no capability at all. The agent's DaemonSet says runAsUser 0,
# since libvirt's socket and the files of /sys belong to root, and adds one capability, NET_ADMIN (links and VFs of PFs);
# it drops all others. Neither needs to write to the root file system. docs/security.md says more.
USER 65532:65532
# -I: neither the environment nor the working directory can add code; -B: no bytecode is written.
ENTRYPOINT ["/opt/hostdev-operator/bin/python", "-IB", "-m", "hostdev_operator"]
