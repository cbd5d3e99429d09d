// Command etcd runs the etcd server: its module ships the server as a library only, without a main package
// that can be built from another module.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
