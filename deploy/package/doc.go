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
// deploy/package.sh has built; without these they are skipped and say so. The image is
// built where there is buildah, with this machine's Go in place of the image of Go. No
// cluster and no Grafana is asked: manifests and the dashboard are decoded strictly
// into their types.
package packages
