// EVE's reconciler: items that need ten others each, as if by chance, and configurators that do nothing, from an empty
// graph to the intended one.
//
//	reconciler ITEMS
//
// It prints the seconds that took on the processor, in all threads: the making of the graph, and one Reconcile.
package main

import (
	"context"
	"fmt"
	"log"
	"math/rand"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/lf-edge/eve-libs/depgraph"
	"github.com/lf-edge/eve-libs/reconciler"
)

const needs = 10

type thing struct {
	name  string
	needs []depgraph.Dependency
}

func (t thing) Name() string                        { return t.name }
func (t thing) Label() string                       { return "" }
func (t thing) Type() string                        { return "object" }
func (t thing) Equal(_ depgraph.Item) bool          { return true }
func (t thing) External() bool                      { return false }
func (t thing) String() string                      { return t.name }
func (t thing) Dependencies() []depgraph.Dependency { return t.needs }

type nothing struct{ created int }

func (n *nothing) Create(context.Context, depgraph.Item) error           { n.created++; return nil }
func (n *nothing) Modify(_ context.Context, _, _ depgraph.Item) error    { return nil }
func (n *nothing) Delete(context.Context, depgraph.Item) error           { return nil }
func (n *nothing) NeedsRecreate(_, _ depgraph.Item) bool                 { return false }
func (n *nothing) GetConfigurator(depgraph.Item) reconciler.Configurator { return n }

func main() {
	count, err := strconv.Atoi(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}

	rng := rand.New(rand.NewSource(7))
	items := make([]depgraph.Item, count)
	for number := range items {
		one := thing{name: fmt.Sprintf("config/object/%06d", number)}
		for range min(number, needs) {
			ref := depgraph.ItemRef{ItemType: "object", ItemName: fmt.Sprintf("config/object/%06d", rng.Intn(number))}
			needed := func(other depgraph.Dependency) bool { return other.RequiredItem == ref }
			if !slices.ContainsFunc(one.needs, needed) { // twice the same is a mistake there
				one.needs = append(one.needs, depgraph.Dependency{RequiredItem: ref})
			}
		}
		items[number] = one
	}
	rng.Shuffle(count, func(i, j int) { items[i], items[j] = items[j], items[i] })

	kind := &nothing{}
	began := cpu()
	intended := depgraph.New(depgraph.InitArgs{Name: "objects", Items: items})
	current := depgraph.New(depgraph.InitArgs{Name: "objects"})
	status := reconciler.New(kind).Reconcile(context.Background(), current, intended)
	taken := cpu() - began

	if status.Err != nil || kind.created != count {
		log.Fatalf("%d of %d were created: %v", kind.created, count, status.Err)
	}
	fmt.Println(taken.Seconds())
}

// cpu is the time that this process has had so far.
func cpu() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		log.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
