module dialect

go 1.21

require github.com/golang/protobuf v1.0.0
