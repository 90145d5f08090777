# Nearhive with its embedded state server. Build: docker build -t nearhive .
# Run: docker run -p 8000:8000 -v nearhive:/var/lib/nearhive nearhive
# The volume holds the state and the secrets made at first start; end the container with at least 20 s of grace.

FROM python:3.11-slim-bookworm AS build

RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/nearhive
# Machine code for any processor of this architecture: the image is built on one and run on another.
ENV NUMBA_CPU_NAME=generic NUMBA_CACHE_DIR=/opt/nearhive/.kernels PIP_NO_CACHE_DIR=1

# The packages first, by the very step of `make setup`: they are installed again only when these files change.
COPY Makefile constraints.txt pyproject.toml README.md LICENSE NOTICE ./
RUN mkdir geo discovery api && touch geo/__init__.py discovery/__init__.py api/__init__.py && make .venv/.packages
COPY geo geo
COPY discovery discovery
COPY api api
RUN make setup

FROM python:3.11-slim-bookworm

RUN useradd --system --uid 10001 --home-dir /var/lib/nearhive --create-home nearhive
WORKDIR /opt/nearhive
# Same paths and times as where the kernels were compiled, or Numba would compile them again; it also writes there.
COPY --from=build --chown=nearhive /opt/nearhive /opt/nearhive
ENV NUMBA_CPU_NAME=generic NUMBA_CACHE_DIR=/opt/nearhive/.kernels NEARHIVE_DATA_DIR=/var/lib/nearhive/data \
    PATH=/opt/nearhive/.venv/bin:$PATH
USER nearhive
VOLUME /var/lib/nearhive
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
CMD ["nearhive", "serve", "--host", "0.0.0.0", "--port", "8000"]
