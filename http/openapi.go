package http

import (
	_ "embed"
	"net/http"

	"github.com/julienschmidt/httprouter"
)

// openAPI is the description of the interface (OpenAPI 3.1). A test holds real
// answers of every route against it.
//
//go:embed openapi.json
var openAPIDocument []byte

func (s *Server) openAPI(*http.Request, httprouter.Params) (reply, error) {
	return reply{body: openAPIDocument}, nil
}
