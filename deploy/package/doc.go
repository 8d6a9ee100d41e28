// Package packages tests what popgate is installed from: the unit of systemd, the
// packages of Debian and RPM, the image of a container, the chart of Helm, the
// manifests of Kubernetes, the compose file and the dashboard of Grafana. It has no
// code but tests, and a module of its own, so that the tools do not weigh on popgate's.
//
// Invariants: nothing is written to the machine that the tests run on. Packages are
// installed into a copy of its file system that is thrown away (an overlay in a
// mount namespace of its own). Nothing is fetched but Go modules.
//
// Limits: the tests of packages need Debian, root or sudo, rpm, and what
// deploy/package.sh has built; without these they are skipped and say so. No image
// is built: the Dockerfile is parsed, and its last stage is laid out in a folder
// and run there. No cluster is asked: manifests are decoded strictly into the types
// of Kubernetes.
package packages
