package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// requestInfo reads lines of METHOD, space, path and query, and writes for each a line of JSON: what the API server
// itself makes of it. It is what the gateway's own reading is compared with.
func requestInfo(in io.Reader, out io.Writer) error {
	factory := request.RequestInfoFactory{
		APIPrefixes:          sets.NewString("api", "apis"),
		GrouplessAPIPrefixes: sets.NewString("api"),
	}
	writer := bufio.NewWriter(out)
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var method, target string
		if _, err := fmt.Sscanf(lines.Text(), "%s %s", &method, &target); err != nil {
			return fmt.Errorf("%q: %w", lines.Text(), err)
		}
		address, err := url.ParseRequestURI(target)
		if err != nil {
			return fmt.Errorf("%q: %w", target, err)
		}
		// An error leaves it as far as it was understood, and so does the API server.
		info, _ := factory.NewRequestInfo(&http.Request{Method: method, URL: address})
		line, err := json.Marshal(map[string]any{
			"isResource":  info.IsResourceRequest,
			"verb":        info.Verb,
			"apiGroup":    info.APIGroup,
			"apiVersion":  info.APIVersion,
			"namespace":   info.Namespace,
			"resource":    info.Resource,
			"subresource": info.Subresource,
			"name":        info.Name,
		})
		if err != nil {
			return err
		}
		writer.Write(append(line, '\n')) //nolint:errcheck // Flush tells
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return writer.Flush()
}
