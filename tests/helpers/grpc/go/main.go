// The Go package's own generated client against an agent: what it is asked to do comes as arguments, what it hears is
// printed as JSON lines.
//
//	grpcclient ADDR ping TEXT
//	grpcclient ADDR resync [KEY=CONTENT]...
//	grpcclient ADDR change (put:KEY=CONTENT | del:KEY)...
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"
	"strings"
	"time"

	"github.com/ligato/cn-infra/datasync/syncbase/msg"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func main() {
	conn, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	client := msg.NewDataMsgServiceClient(conn)
	words := os.Args[3:]
	switch os.Args[2] {
	case "ping":
		reply, err := client.Ping(ctx, &msg.PingRequest{Message: words[0]})
		check(err)
		show(reply)
	case "resync":
		request := &msg.DataResyncRequests{MsgId: &msg.Seq{Originator: "go", SeqCreatedSec: 7, Seq: 42}}
		for _, word := range words {
			key, content, _ := strings.Cut(word, "=")
			request.DataResyncs = append(request.DataResyncs, &msg.DataResyncRequest{Key: key, Content: []byte(content)})
		}
		reply, err := client.DataResyncs(ctx, request)
		check(err)
		show(reply)
	case "change":
		change(ctx, client, words)
	}
}

// change sends everything before it reads the first answer.
func change(ctx context.Context, client msg.DataMsgServiceClient, words []string) {
	stream, err := client.DataChanges(ctx)
	check(err)
	for _, word := range words {
		op, rest, _ := strings.Cut(word, ":")
		key, content, _ := strings.Cut(rest, "=")
		request := &msg.DataChangeRequest{Key: key, Content: []byte(content)}
		if op == "del" {
			request.OperationType = msg.PutDel_DEL
		}
		check(stream.Send(request))
	}
	check(stream.CloseSend())
	for range words {
		reply, err := stream.Recv()
		check(err)
		show(reply)
	}
}

func show(message any) {
	check(json.NewEncoder(os.Stdout).Encode(message))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
