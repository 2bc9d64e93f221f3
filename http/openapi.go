package http

import (
	_ "embed"
	"net/http"

	"github.com/julienschmidt/httprouter"
)

// openAPIDocument is the description of the interface (OpenAPI 3.1). Tests compare the
// responses of every route with it.
//
//go:embed openapi.json
var openAPIDocument []byte

func (s *Server) openAPI(*http.Request, httprouter.Params) (response, error) {
	return response{body: openAPIDocument}, nil
}
