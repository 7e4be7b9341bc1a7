// How a command fails: one sentence on stderr and an exit code that a script can use.

import ArgumentParsing
import ErrorText
import FineTuning
import Foundation
import KafkaClient

enum Failure {
  /// Runs a command's work; an error becomes its sentence and exit code 1.
  static func explain<T>(_ work: () async throws -> T) async throws -> T {
    do {
      return try await work()
    } catch let error as ExitCode {
      throw error
    } catch let error as ValidationError {
      throw error
    } catch let TrainingError.configuration(problem) {
      // Settings of a training are given on the command line: wrong use, shown with the command's usage.
      throw ValidationError("\(TrainingError.configuration(problem))")
    } catch {
      say(ErrorText.sentence(error))
      let isSetting = error is SettingError || (error as? KafkaError)?.isSetting == true
      throw isSetting ? ExitCode(2) : ExitCode.failure
    }
  }

  static func say(_ text: String) {
    FileHandle.standardError.write(
      Data("oppu-worker: \(Spelling.harmless(text))\n".utf8))
  }
}
