// A newer etcd server than Debian's, for the tests: see ../etcd_server.py.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
