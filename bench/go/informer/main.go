// client-go's shared informer, fed by a fake watch: each change is decoded from JSON, goes through the informer to its
// handler, and is awaited before the next one.
//
//	informer CHANGES
//
// It prints the seconds that they took.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

const keys = 100

// Interface is what the values are decoded to, as an object that an informer keeps.
type Interface struct {
	metav1.TypeMeta   `json:"-"`
	metav1.ObjectMeta `json:"-"`
	Name              string `json:"name"`
	MTU               int    `json:"mtu"`
}

func (one *Interface) DeepCopyObject() runtime.Object {
	copied := *one
	one.ObjectMeta.DeepCopyInto(&copied.ObjectMeta)
	return &copied
}

// lists has the informer list before it watches: a fake watch does not bring what there is already.
type lists struct{ *cache.ListWatch }

func (lists) IsWatchListSemanticsUnSupported() bool { return true }

func main() {
	count, err := strconv.Atoi(os.Args[1])
	check(err)

	source := watch.NewFake()
	informer := cache.NewSharedInformer(lists{&cache.ListWatch{
		ListWithContextFunc: func(context.Context, metav1.ListOptions) (runtime.Object, error) {
			return &metav1.List{ListMeta: metav1.ListMeta{ResourceVersion: "1"}}, nil
		},
		WatchFuncWithContext: func(context.Context, metav1.ListOptions) (watch.Interface, error) {
			return source, nil
		},
	}}, &Interface{}, 0)
	handled := make(chan struct{})
	_, err = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { handled <- struct{}{} },
		UpdateFunc: func(_, _ any) { handled <- struct{}{} },
	})
	check(err)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go informer.RunWithContext(ctx)
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		log.Fatal("the informer has not synced")
	}

	began := time.Now()
	for number := range count {
		value := fmt.Appendf(nil, `{"name":"eth0","mtu":%d}`, number)
		one := &Interface{ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("config-%d", number%keys), ResourceVersion: strconv.Itoa(number + 2),
		}}
		check(json.Unmarshal(value, one))
		if number < keys {
			source.Add(one)
		} else {
			source.Modify(one)
		}
		<-handled
	}
	fmt.Println(time.Since(began).Seconds())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
