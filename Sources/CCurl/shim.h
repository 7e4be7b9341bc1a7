// The C signatures of the libcurl functions that are looked up by name at run time. There is no link
// directive: the library, and the dozen that it brings, is opened with dlopen when something is fetched.
#ifndef OPPU_CCURL_SHIM_H
#define OPPU_CCURL_SHIM_H

// Functions stay functions, and options that older versions need can be named.
#define CURL_DISABLE_TYPECHECK
#define CURL_DISABLE_DEPRECATION
#include <curl/curl.h>

typedef __typeof__(&curl_global_init) curl_global_init_function;
typedef __typeof__(&curl_easy_init) curl_easy_init_function;
typedef __typeof__(&curl_easy_cleanup) curl_easy_cleanup_function;
typedef const char *_Nonnull (*curl_easy_strerror_function)(CURLcode code);
typedef __typeof__(&curl_slist_append) curl_slist_append_function;
typedef __typeof__(&curl_slist_free_all) curl_slist_free_all_function;
typedef __typeof__(&curl_multi_init) curl_multi_init_function;
typedef __typeof__(&curl_multi_cleanup) curl_multi_cleanup_function;
typedef __typeof__(&curl_multi_add_handle) curl_multi_add_handle_function;
typedef __typeof__(&curl_multi_remove_handle) curl_multi_remove_handle_function;
typedef __typeof__(&curl_multi_perform) curl_multi_perform_function;
typedef __typeof__(&curl_multi_poll) curl_multi_poll_function;
typedef __typeof__(&curl_multi_wakeup) curl_multi_wakeup_function;
typedef __typeof__(&curl_multi_info_read) curl_multi_info_read_function;

// These two take arguments of any type, which Swift cannot call: the pointers come from dlsym.

static inline CURLcode curl_set_number(void *setopt, CURL *handle, CURLoption option, long value) {
  return ((CURLcode(*)(CURL *, CURLoption, ...))setopt)(handle, option, value);
}

// A string is copied by libcurl, any other object has to live as long as it is used.
static inline CURLcode curl_set_pointer(
    void *setopt, CURL *handle, CURLoption option, const void *value) {
  return ((CURLcode(*)(CURL *, CURLoption, ...))setopt)(handle, option, value);
}

static inline CURLcode curl_set_callback(
    void *setopt, CURL *handle, CURLoption option, curl_write_callback value) {
  return ((CURLcode(*)(CURL *, CURLoption, ...))setopt)(handle, option, value);
}

// Null where there is none; libcurl's own, until the handle is used again.
static inline const char *curl_get_string(void *getinfo, CURL *handle, CURLINFO info) {
  const char *value = 0;
  CURLcode code = ((CURLcode(*)(CURL *, CURLINFO, ...))getinfo)(handle, info, &value);
  return code == CURLE_OK ? value : 0;
}

#endif
