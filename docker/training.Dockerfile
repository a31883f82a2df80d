# Training: torch on the CPU. The build context `wheels` is a folder of wheels (docker/wheels).
FROM python:3.11-slim AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

COPY pyproject.toml constraints.txt docker/requirements.py ./
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,from=wheels,target=/wheels \
    python requirements.py build >build.txt \
    && python requirements.py training >training.txt \
    && pip install --quiet --prefix=/dependencies --find-links=/wheels \
        -c constraints.txt -r training.txt \
    && pip install --quiet -r build.txt

COPY README.md LICENSE ./
COPY models models
COPY service service
COPY training training
RUN pip wheel --quiet --no-cache-dir --no-build-isolation --no-deps --wheel-dir=dist . \
    && pip install --quiet --no-cache-dir --no-deps --no-index --prefix=/package dist/*.whl


FROM python:3.11-slim
COPY --from=build /dependencies /usr/local
COPY --from=build /package /usr/local
WORKDIR /work
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 ORT_DISABLE_TELEMETRY=1 \
    HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib
USER 10001:10001
ENTRYPOINT ["faultcube"]
CMD ["train", "--help"]
