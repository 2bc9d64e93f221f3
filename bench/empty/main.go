// Command empty is the baseline for the cost of HTTP: net/http and httprouter with a
// handler that reads the body and responds.
package main

import (
	"flag"
	"io"
	"log"
	"net/http"
	"time"

	"github.com/julienschmidt/httprouter"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8799", "address to listen on")
	flag.Parse()
	router := httprouter.New()
	router.POST("/api/messages/send", func(w http.ResponseWriter, r *http.Request, _ httprouter.Params) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"status":"success"}`) // the load generator detects a failure
	})
	server := &http.Server{Addr: *addr, Handler: router, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}
