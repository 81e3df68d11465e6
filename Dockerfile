# `python -m deployment serve` in a container, without root's rights.
#
#   docker build --tag effdense .
#   docker run --rm --publish 8000:8000 --volume "$PWD/models:/models:ro" effdense --ckpt_path /models/detector.ckpt
#
# pip fetches PyTorch's usual build, which on Linux brings CUDA. For processors alone, name the index of PyTorch's small
# builds (pytorch.org/get-started): docker build --build-arg PIP_EXTRA_INDEX_URL=ADDRESS …
FROM python:3.12-slim AS build
ARG PIP_EXTRA_INDEX_URL=""
WORKDIR /source
RUN python -m venv /opt/effdense
COPY pyproject.toml setup.py README.md LICENSE NOTICE ./
COPY backbones backbones
COPY classification classification
COPY configs configs
COPY deployment deployment
COPY detection detection
COPY engine engine
COPY joint joint
COPY segmentation segmentation
RUN /opt/effdense/bin/pip install --no-cache-dir ".[serve,onnx]"

FROM python:3.12-slim
RUN useradd --no-create-home --uid 1000 serve
COPY --from=build /opt/effdense /opt/effdense
USER 1000
WORKDIR /opt/effdense
ENV PATH="/opt/effdense/bin:$PATH" PYTHONUNBUFFERED=1
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "deployment", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["--help"]
