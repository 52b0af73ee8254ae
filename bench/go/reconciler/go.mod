module datasync.bench/reconciler

go 1.26.0

require github.com/lf-edge/eve-libs v0.0.0-20260625212237-f808748a0511

require golang.org/x/text v0.32.0 // indirect
