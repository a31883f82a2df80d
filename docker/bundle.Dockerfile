# A bundle as an image, to be mounted as a volume: docker build -f docker/bundle.Dockerfile FOLDER
FROM scratch
COPY . /
