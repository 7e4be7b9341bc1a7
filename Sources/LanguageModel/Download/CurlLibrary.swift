// libcurl opened at run time, when something is fetched: most starts of the program do without it.

import CCurl
import Foundation

/// libcurl and the functions used of it.
///
/// Unchecked: the pointers are those of functions, which may be called from any thread on different
/// handles.
struct CurlLibrary: @unchecked Sendable {
  #if os(macOS)
    static let names = ["libcurl.4.dylib", "/usr/lib/libcurl.4.dylib"]
    static let package = "curl"
  #else
    // Debian's name of the one that uses GnuTLS is the second.
    static let names = ["libcurl.so.4", "libcurl-gnutls.so.4"]
    static let package = "libcurl4, on Fedora libcurl"
  #endif

  /// Opened on first use and then kept; nil where it is not installed, or older than 7.68 of 2020.
  static let shared = open(names)

  let easyInit: curl_easy_init_function
  let easyCleanup: curl_easy_cleanup_function
  let describe: curl_easy_strerror_function
  let listAppend: curl_slist_append_function
  let listFree: curl_slist_free_all_function
  let multiInit: curl_multi_init_function
  let multiCleanup: curl_multi_cleanup_function
  let multiAdd: curl_multi_add_handle_function
  let multiRemove: curl_multi_remove_handle_function
  let multiPerform: curl_multi_perform_function
  let multiPoll: curl_multi_poll_function
  let multiWakeup: curl_multi_wakeup_function
  let multiInfo: curl_multi_info_read_function
  /// For the functions of CCurl's header that set an option or read a result.
  let setOption: UnsafeMutableRawPointer
  let getInfo: UnsafeMutableRawPointer

  /// The first of `names` that can be opened and has every function; it stays open. To be called once
  /// for a library: the initialisation is the process'.
  static func open(_ names: [String]) -> CurlLibrary? {
    for name in names {
      guard let handle = dlopen(name, RTLD_NOW | RTLD_LOCAL) else { continue }
      if let library = CurlLibrary(handle) { return library }
      dlclose(handle)
    }
    return nil
  }

  private init?(_ handle: UnsafeMutableRawPointer) {
    func find<Function>(_ name: String) -> Function? {
      dlsym(handle, name).map { unsafeBitCast($0, to: Function.self) }
    }
    guard let globalInit: curl_global_init_function = find("curl_global_init"),
      let easyInit: curl_easy_init_function = find("curl_easy_init"),
      let easyCleanup: curl_easy_cleanup_function = find("curl_easy_cleanup"),
      let describe: curl_easy_strerror_function = find("curl_easy_strerror"),
      let listAppend: curl_slist_append_function = find("curl_slist_append"),
      let listFree: curl_slist_free_all_function = find("curl_slist_free_all"),
      let multiInit: curl_multi_init_function = find("curl_multi_init"),
      let multiCleanup: curl_multi_cleanup_function = find("curl_multi_cleanup"),
      let multiAdd: curl_multi_add_handle_function = find("curl_multi_add_handle"),
      let multiRemove: curl_multi_remove_handle_function = find("curl_multi_remove_handle"),
      let multiPerform: curl_multi_perform_function = find("curl_multi_perform"),
      let multiPoll: curl_multi_poll_function = find("curl_multi_poll"),
      let multiWakeup: curl_multi_wakeup_function = find("curl_multi_wakeup"),
      let multiInfo: curl_multi_info_read_function = find("curl_multi_info_read"),
      let setOption = dlsym(handle, "curl_easy_setopt"),
      let getInfo = dlsym(handle, "curl_easy_getinfo"),
      globalInit(Int(CURL_GLOBAL_SSL | CURL_GLOBAL_WIN32)) == CURLE_OK
    else { return nil }
    self.easyInit = easyInit
    self.easyCleanup = easyCleanup
    self.describe = describe
    self.listAppend = listAppend
    self.listFree = listFree
    self.multiInit = multiInit
    self.multiCleanup = multiCleanup
    self.multiAdd = multiAdd
    self.multiRemove = multiRemove
    self.multiPerform = multiPerform
    self.multiPoll = multiPoll
    self.multiWakeup = multiWakeup
    self.multiInfo = multiInfo
    self.setOption = setOption
    self.getInfo = getInfo
  }
}
