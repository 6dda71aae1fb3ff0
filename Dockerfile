# siimdet serve in a container; docs/container.md says how to build and run it. Where no Docker engine runs,
# `python tools/container_steps.py` executes these steps.

FROM node:22-slim AS viewer
WORKDIR /src/siimdet/serve/web
COPY siimdet/serve/web/package.json siimdet/serve/web/package-lock.json ./
RUN npm ci --ignore-scripts --loglevel error
COPY siimdet/serve/web ./
RUN npm run build

FROM python:3.11-slim AS wheel
# yolo brings ultralytics, which is under AGPL-3.0: see the README.
ARG EXTRAS="serve pacs yolo"
WORKDIR /src
COPY requirements.lock pyproject.toml ./
COPY tools/lock_part.py tools/build_backend.lock tools/
# pip stays out of what is served; without build isolation only what has a hash here is executed.
RUN python -m venv /build && python -m venv --without-pip /opt/siimdet \
    && /build/bin/pip install --quiet --no-cache-dir --no-deps --only-binary :all: \
       --require-hashes --requirement tools/build_backend.lock
RUN python tools/lock_part.py $EXTRAS > part.lock \
    && /build/bin/pip --python /opt/siimdet/bin/python install --quiet --no-cache-dir --no-deps --only-binary :all: \
       --require-hashes --requirement part.lock
COPY README.md LICENSE ./
COPY siimdet siimdet
COPY converters converters
COPY configs configs
COPY --from=viewer /src/siimdet/serve/static siimdet/serve/static
RUN /build/bin/pip wheel --quiet --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /build/bin/pip --python /opt/siimdet/bin/python install --quiet --no-cache-dir --no-deps --no-index \
       /wheels/*.whl \
    && /opt/siimdet/bin/siimdet doctor

FROM python:3.11-slim
COPY --from=wheel /opt/siimdet /opt/siimdet
# Models are mounted here, or baked in: a folder of runs in this checkout. COPY needs a file that exists.
ARG MODELS=LICENSE
COPY --chown=10001:10001 ${MODELS} /models/
# /scratch: uploads, results, what libraries keep. At run time a tmpfs, which is root's and takes the mode from here.
# /state: what must outlive the container, such as the journal of a watched archive. A named volume takes owner and mode
# from here.
RUN install -d -m 1777 /scratch && install -d -o 10001 -g 10001 -m 700 /state
ENV PATH=/opt/siimdet/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/scratch \
    TMPDIR=/scratch \
    USER=siimdet
VOLUME ["/scratch"]
WORKDIR /scratch
# A number needs no entry in /etc/passwd, and Kubernetes' runAsNonRoot can judge it.
USER 10001:10001
EXPOSE 8000
# Not through a proxy, and without a token: /healthz needs none.
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 CMD ["python", "-I", "-c", \
    "import http.client as c; h = c.HTTPConnection('127.0.0.1', 8000, timeout=4); h.request('GET', '/healthz'); \
    raise SystemExit(h.getresponse().status != 200)"]
ENTRYPOINT ["siimdet"]
# Any address but loopback needs a token: SIIMDET_TOKEN.
CMD ["serve", "--host", "0.0.0.0", "--detector", "/models/faster_rcnn", "/models/yolo", "--study", "/models/study"]
