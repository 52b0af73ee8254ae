// Writes messages with Go's encoding/json, as the Go package datasync does, and reads them.
//
//	go run . write DIR     writes NAME.json and NAME.bin (the same message in protobuf's binary form) into DIR
//	go run . read          reads lines of JSON, `{"type": "Whole", "json": {...}}`, and answers each with the binary
//	                       form of what it read, in base64, or with a line that starts with "error"
package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log"
	"math"
	"os"
	"path/filepath"

	. "dialect/dialect"

	"github.com/golang/protobuf/proto"
	"github.com/golang/protobuf/ptypes/any"
	"github.com/golang/protobuf/ptypes/duration"
	"github.com/golang/protobuf/ptypes/empty"
	"github.com/golang/protobuf/ptypes/timestamp"
	"github.com/golang/protobuf/ptypes/wrappers"
)

var messages = map[string]proto.Message{
	"empty": &Whole{},
	"scalars": &Whole{
		Name: "a<b>&\"é\u2028\U0001f600\\", I32Value: -1 << 31, I64: -1 << 63, U64: 1<<64 - 1, Flag: true,
		Twofold: 1e300, Single: 0.1, Raw: []byte{0, 255, 254}, Kind: Kind_BELOW,
	},
	"small_numbers": &Whole{Twofold: 1e-7, Single: 1e21, I64: 1<<53 + 1, Kind: 77},
	"nested": &Whole{
		Part:   &Part{},
		Parts:  []*Part{{AName: "x", Part: &Part{Part: &Part{Number: 5}}}, {}},
		PartOf: map[string]*Part{"k": {Number: 1}, "": {}},
	},
	"maps": &Whole{
		TextOf: map[int32]string{-1: "x", 10: "y", 9: ""}, KindOf: map[uint64]Kind{1<<64 - 1: Kind_ONE, 0: Kind_ZERO},
	},
	"lists": &Whole{
		Numbers: []int64{0, 1 << 62}, Texts: []string{"", "a"}, Raws: [][]byte{{}, {1}}, Kinds: []Kind{0, 1, 9},
		Singles: []float32{0.1, 16777216, 1.2345678, 8589973504, 1.17549435e-38},
	},
	"largest_floats": &Whole{Single: math.MaxFloat32, Singles: []float32{1, -math.MaxFloat32}},
	"empty_lists":    &Whole{Numbers: []int64{}, TextOf: map[int32]string{}, Raw: []byte{}},
	"choice_text":    &Whole{SomeChoice: &Whole_AText{AText: "t"}},
	"choice_zero":    &Whole{SomeChoice: &Whole_Number_2{}},
	"choice_part":    &Whole{SomeChoice: &Whole_APart{APart: &Part{AName: "p"}}},
	"choice_raw":     &Whole{SomeChoice: &Whole_SomeRaw{SomeRaw: []byte{1, 2}}},
	"choice_kind":    &Whole{SomeChoice: &Whole_AKind{AKind: Kind_ONE}},
	"choice_moment":  &Whole{SomeChoice: &Whole_Then{Then: &timestamp.Timestamp{Seconds: 7}}},
	"known": &Whole{
		At:          &timestamp.Timestamp{Seconds: -62135596800, Nanos: 7},
		Took:        &duration.Duration{Seconds: -5, Nanos: -7},
		Anything:    &any.Any{TypeUrl: "example.com/no.such.Type", Value: []byte{1}},
		Nothing:     &empty.Empty{},
		MaybeNumber: &wrappers.Int64Value{Value: 1<<53 + 1},
		MaybeText:   &wrappers.StringValue{Value: "t"},
		MaybeRaw:    &wrappers.BytesValue{Value: []byte("raw")},
		Times:       []*timestamp.Timestamp{{}, {Nanos: 1}},
		Durations:   map[string]*duration.Duration{"a": {Seconds: 1}, "b": {}},
	},
	"known_zero": &Whole{
		At: &timestamp.Timestamp{}, Took: &duration.Duration{}, Anything: &any.Any{},
		MaybeNumber: &wrappers.Int64Value{}, MaybeText: &wrappers.StringValue{}, MaybeRaw: &wrappers.BytesValue{},
	},
	"beyond_rfc3339": &Whole{At: &timestamp.Timestamp{Seconds: 1 << 60, Nanos: -1}},
	"old": &Old{
		Name: proto.String(""), Number: proto.Int32(0), Flag: proto.Bool(false), Raw: []byte{0}, Colour: Colour_RED.Enum(),
		Colours: []Colour{Colour_GREEN, Colour_RED}, Inner: &Old{Name: proto.String("i")}, Twofold: proto.Float64(0),
		Lump: &Old_Lump{Content: proto.String("c")}, Numbers: map[string]int64{"n": -1}, Text: proto.String(""),
	},
	"old_unset": &Old{Name: proto.String("n")},
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func write(dir string) {
	for name, message := range messages {
		text, err := json.Marshal(message)
		must(err)
		must(os.WriteFile(filepath.Join(dir, name+".json"), text, 0o644))
		binary, err := proto.Marshal(message)
		must(err)
		must(os.WriteFile(filepath.Join(dir, name+".bin"), binary, 0o644))
	}
}

func read() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var line struct {
			Type string
			JSON json.RawMessage
		}
		must(json.Unmarshal(lines.Bytes(), &line))
		var message proto.Message = &Whole{}
		if line.Type == "Old" {
			message = &Old{}
		}
		if err := json.Unmarshal(line.JSON, message); err != nil {
			fmt.Println("error", err)
			continue
		}
		binary, err := proto.Marshal(message)
		must(err)
		fmt.Println(base64.StdEncoding.EncodeToString(binary))
	}
	must(lines.Err())
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "write" {
		write(os.Args[2])
	} else {
		read()
	}
}
