// The Go package's local transport: a transaction is put, its changes are decoded and accepted, and its verdict is
// awaited before the next one.
//
//	cninfra CHANGES CHANGES-A-TRANSACTION
//
// It prints the seconds that they took. The registry is what the package's `local.Get()` gives and its transactions
// commit to; `local` itself needs a module that is no longer to be had. A transaction must not have more than five changes: the package has room for as
// many verdicts, drops those that come while there is none, and waits for them for five seconds.
package main

import (
	"fmt"
	"log"
	"os"
	"strconv"
	"time"

	"github.com/ligato/cn-infra/datasync"
	"github.com/ligato/cn-infra/datasync/syncbase"
)

const keys = 100

// Interface is what the values are decoded to.
type Interface struct {
	Name string `json:"name"`
	MTU  int    `json:"mtu"`
}

func (one *Interface) Reset()         { *one = Interface{} }
func (one *Interface) String() string { return one.Name }
func (*Interface) ProtoMessage()      {}

func main() {
	count, err := strconv.Atoi(os.Args[1])
	check(err)
	size, err := strconv.Atoi(os.Args[2])
	check(err)

	registry := syncbase.NewRegistry()
	changes := make(chan datasync.ChangeEvent)
	resyncs := make(chan datasync.ResyncEvent)
	_, err = registry.Watch("bench", changes, resyncs, "config/")
	check(err)
	go accept(changes)

	began := time.Now()
	for number := 0; number < count; {
		txn := make(map[string]datasync.ChangeValue, size)
		for range size {
			key := fmt.Sprintf("config/%d", number%keys)
			value := fmt.Appendf(nil, `{"name":"eth0","mtu":%d}`, number)
			txn[key] = syncbase.NewChangeBytes(key, value, 0, datasync.Put)
			number++
		}
		check(registry.PropagateChanges(txn))
	}
	fmt.Println(time.Since(began).Seconds())
}

func accept(changes <-chan datasync.ChangeEvent) {
	for event := range changes {
		var value Interface
		event.Done(event.GetValue(&value))
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
